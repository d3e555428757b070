"""The search spaces that come with autoprec: TOML files that say which precisions a search may choose from."""
