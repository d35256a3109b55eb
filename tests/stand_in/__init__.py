"""CUDA devices that are none: tensors that say ``cuda:0`` or ``cuda:1`` and hold their values in host memory.

For finding, on a machine without a GPU, what would go wrong on one. Refused is what CUDA refuses: operands on two
devices, a wait for the host inside a capture, an index out of range, a float64 step size in fused Adam. Counted are
operations and waits for the host, by the line that asked. Graphs record operations on fixed memory and run them again;
what happens on another device than the one that captures is not recorded, as on a real GPU.

It has no streams, no memory limit and no numerics of its own. A device guard must be registered before torch loads, so
these tests run in a process of their own: ``python -m pytest -p tests.stand_in.plugin tests/stand_in`` (needs g++).
"""
