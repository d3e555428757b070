"""Search spaces: TOML files that say which precisions a search may choose from."""
