"""The answer of a tune: chosen, judged on samples that chose nothing, explained.

In goes what the search found; out come the chosen plan beside its rivals, the reasons, the tables and plan.json. Read
`confirm.py` first, then `choose.py`.
"""
