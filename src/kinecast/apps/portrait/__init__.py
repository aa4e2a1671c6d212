"""From a picture of any shape and size to a finished video: faces are found, cropped, animated and pasted back.

picture -> faces.py: who is in it -> crops.py: the square around each head
driving -> driving.py: motion, its times, its sound
both ----> stage.py: frames, pasted into the whole picture or the square alone
job.py: clip to clip on disk; batch.py: folders of them; reenact.py: a clip as source; api.py: `kinecast.animate`;
preview.py: a picture before all that; options.py: what may be chosen
"""
