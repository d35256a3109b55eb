"""Experiments as verbs of the command line."""
