"""The proof of what an engine really runs.

A plan and a runtime go in; out comes for each unit the precision that was asked for and the one that ran, and where the
time goes. Read `verification.py` first; `inspect.py` asks the runtime, and `unit_times.py` measures the time by unit.
"""
