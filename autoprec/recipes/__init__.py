"""Recipes in TOML: search spaces and calibration recipes, by name or path.

In goes a name or a file; out come checked records. Read `space.py` first; the recipes themselves lie in the folders
`search_spaces/` and `calibration/`.
"""
