"""Faces moved by a mesh of landmarks: the pose of the head, a few numbers of expression, and a small network."""
