"""3-D heads moved by received motion: glTF files with ARKit's blendshapes, and what 38 numbers a frame make of them."""
