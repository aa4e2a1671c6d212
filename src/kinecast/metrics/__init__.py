"""Metrics of predictions, independent of backbones and forecasters."""
