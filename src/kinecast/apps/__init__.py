"""What users do with the models: animate, call, detect anomalies."""
