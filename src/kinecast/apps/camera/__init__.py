"""`kinecast camera`: a portrait that moves as the person before the camera does, as a camera of any meeting program.

feed.py: the newest frame of a camera, or of a clip in its place -> performer.py: the portrait, moved by it
avatars.py: portraits in the virtual camera's own shape; show.py: all of it, until it ends; figures.py: what it took
page.py: the preview and its buttons in a browser; keys.py: the same by keys of the terminal
"""
