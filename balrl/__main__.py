"""``python -m balrl``."""

import sys

from balrl.cli.main import main

sys.exit(main())
