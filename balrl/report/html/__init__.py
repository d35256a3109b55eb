"""Runs as one self-contained HTML file."""
