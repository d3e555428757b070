"""The tunable units of a graph."""
