"""Video with GFV messages: writing, reading, rendering, conversion from and to motion streams. See docs/gfv.md."""
