"""What the local pages share: a server on 127.0.0.1 that only one person's browser may use, and their look."""
