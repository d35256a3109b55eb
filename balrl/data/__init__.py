"""Logged experience: reading it, checking it, preparing it."""

MINARI = "minari:"
OGBENCH = "ogbench:"
NPZ = ".npz"
"""How the names of Minari datasets begin."""
