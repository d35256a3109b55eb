"""Logged experience: reading it, checking it, preparing it."""

MINARI = "minari:"
"""How the names of Minari datasets begin."""
