"""Evaluation: named protocols (`protocol`), and one module per table."""
