"""Calibration recipes: TOML files that say how ranges are found and how images are read."""
