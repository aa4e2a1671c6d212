"""`python -m kinecast`."""

from kinecast.cli import console

console()
