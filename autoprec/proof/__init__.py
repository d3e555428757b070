"""What really ran.

In go a plan and a runtime; out comes for each unit what was asked for beside what the engine computes, and where the
time goes. Read `verification.py` first.
"""
