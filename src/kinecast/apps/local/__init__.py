"""Shared parts of the local pages: a server on 127.0.0.1 for one person's browser, and their style."""
