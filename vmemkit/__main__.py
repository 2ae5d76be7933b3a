"""`python -m vmemkit` is `vmemkit`."""

from __future__ import annotations

import sys

from vmemkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
