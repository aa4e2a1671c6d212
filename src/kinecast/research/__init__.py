"""Tables that can be trusted: named protocols (`protocol`), and one module a table."""
