"""Workers: more processes and machines for one search.

A run directory whose search has begun goes in; plans that this process measured come out. Read `worker.py` first;
`processes.py` starts workers on this machine, and `devices.py` gives each of them a GPU or cores.
"""
