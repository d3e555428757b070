"""Reading and writing files; nothing here knows what a network is.

`columns.py` fits tables into a terminal. `json.py` writes records so that a file is either complete or absent, checks
them when it reads them, and computes fingerprints; read it first. `links.py`, `inventory.py` and `forms.py` see to it
that nothing is written over what is not autoprec's own. `toml.py` reads the tables of recipes with a check of each
key, and `functions.py` imports a function of the user's. `user_cache.py` names the folder for what later runs can
use.
"""
