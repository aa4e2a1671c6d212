"""Applications: animating clips, extracting motion, calls, anomaly detection."""
