"""Clip files to .kcm streams and back: where the codec's bytes meet tensors, media and forecasters."""
