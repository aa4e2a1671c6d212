"""Blocks that several networks are made of, and states of a source picture."""
