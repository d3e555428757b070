"""Recipes in TOML: search spaces and calibration recipes.

The name of a recipe or the path of a file goes in; a checked record comes out. Read `space.py` first. The recipes
that come with autoprec lie in the folders `search_spaces/` and `calibration/` of the repository.
"""
