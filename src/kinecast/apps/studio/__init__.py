"""`kinecast studio`: a local page that animates a portrait by sliders, a clip or a camera, and saves it.

server.py: the routes -> sessions.py: one page's portrait, clip, job, and the folder that goes with it
uploads.py: files to disk, bounded, known by their content; scene.py: faces found, previews drawn
controls.py: sliders to motion; jobs.py: long work, in steps, with progress
"""
