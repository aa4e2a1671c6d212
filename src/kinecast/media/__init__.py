"""Reading media: containers, times and display of frames. Users call `kinecast.media.video`."""
