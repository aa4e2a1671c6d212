"""Clip files to .kcm streams and back: connects the codec with tensors, media and forecasters."""
