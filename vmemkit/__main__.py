"""`python -m vmemkit` is `vmemkit`."""

import sys

from vmemkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
