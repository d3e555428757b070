"""Data sets of named arrays: reading them, checking them against a model, splitting them."""
