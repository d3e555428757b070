"""More processes and machines for one search.

In goes a run directory whose search has begun; out come plans measured by this process. Read
`worker.py` first; `processes.py` starts workers on this machine, `devices.py` gives each of them a GPU or cores.
"""
