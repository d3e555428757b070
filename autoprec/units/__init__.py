"""Units: the parts of a network that get a precision.

In goes a graph; out come its units and a reason for every node that is in none. Read `find.py` first, then
`records.py`.
"""
