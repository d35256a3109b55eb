"""Collected only where the stand-in is installed: it had to come before torch."""

import sys

collect_ignore_glob = [] if "tests.stand_in.plugin" in sys.modules else ["test_*.py"]
