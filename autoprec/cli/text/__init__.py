"""What the verbs print: sentences and tables, no decisions.

In go results; out go lines on standard output. Read `tune.py` first.
"""
