"""Logged experience: reading it, checking it, preparing it."""

MINARI = "minari:"
OGBENCH = "ogbench:"
LEROBOT = "lerobot:"
"""How names begin that are no files."""
NPZ = ".npz"
HDF5 = (".hdf5", ".h5")
