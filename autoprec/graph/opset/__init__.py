"""A model in goes out in another opset: upwards for what a plan needs, downwards for what a runtime reads.

Read `convert.py` first. It walks over the nodes; `steps_up.py` and `steps_down.py` hold one function for each change of
an operator that is more than a wider choice of types, and `schemas.py` sees whether there is such a change.
"""
