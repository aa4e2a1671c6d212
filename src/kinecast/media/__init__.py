"""How media are read: the container, the times and the look of its frames. Users call `kinecast.media.video`."""
