"""Logged experience: reading it, checking it, preparing it."""
