"""What the verbs print: sentences and tables, no decisions.

In go results; out come lines on standard output. Nothing here computes a figure or an exit code.
Read `tune.py` first.
"""
