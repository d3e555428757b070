"""The calibration recipes that come with autoprec: TOML files that say how ranges are found and images are read."""
