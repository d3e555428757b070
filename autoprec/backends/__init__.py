"""The runtimes that can run a plan, behind one protocol."""
