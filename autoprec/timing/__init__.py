"""Clocks: latencies that can be compared.

In go engines; out come rounds that all of them shared. Read `compare.py` first; `race.py` is for busy machines.
"""
