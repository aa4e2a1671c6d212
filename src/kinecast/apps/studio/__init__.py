"""`kinecast studio`: a local page on which a portrait is moved by sliders, a clip or a camera, and saved.

server.py: the routes -> sessions.py: one page's portrait, clip, job, and the folder that goes with it
uploads.py: files to disk, bounded, known by their content; scene.py: faces found, previews drawn
controls.py: sliders to motion; jobs.py: what takes long, in steps, with progress
"""
