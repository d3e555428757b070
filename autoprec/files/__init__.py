"""Reading and writing files; nothing here knows what a network is.

In go records, out go files that are whole or absent, and the other way round with checks. Read `json.py` first.
"""
