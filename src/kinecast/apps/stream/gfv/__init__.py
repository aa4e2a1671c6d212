"""Video whose pictures carry GFV messages: written, read, drawn, converted from and to motion streams. docs/gfv.md."""
