"""Latencies that can be compared with each other.

Engines go in; out come the times of interleaved rounds in which each of them had a turn. Read `compare.py` first: it
measures how long a user waits. `race.py` measures which engine is faster while other programs use the machine too.
"""
