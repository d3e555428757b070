"""Mean average precision of detectors.

The outputs of a detector and true boxes go in; matched detections of each image come out, and the figure of any
weighting of the images. Read `average_precision.py` first. `heads.py` makes boxes of what the usual heads give,
`matching.py` pairs them with true boxes.
"""
