"""The command line: `vmemkit demo | walk | resume | show | evaluate | serve | weights | doctor`.

In: arguments. Out: files, tables and an exit code. All work is done by the other rooms.
"""

from vmemkit.cli.commands import main

__all__ = ["main"]
