"""Units: the smallest parts of a network that get a precision of their own.

A graph goes in; its units come out, with the edges between them and a reason for each node that is in no unit. Read
`records.py` first, then `find.py`, which cuts the graph: `attention.py`, `chains.py`, `siblings.py` and `leftovers.py`
find the units of one kind each, and `groups.py` keeps them free of circles.
"""
