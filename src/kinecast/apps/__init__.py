"""What is done with a model: a clip animated, motion extracted, a call, anomalies found."""
