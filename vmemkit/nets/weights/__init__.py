"""Weight files: which there are, where they are, and how they are read.

`catalogue.py` lists them with owners and licences, `hub.py` finds or downloads them, and
`checkpoints.py` reads files that may come from anywhere and loads them strictly.
"""

from vmemkit.nets.weights.catalogue import WEIGHTS
from vmemkit.nets.weights.checkpoints import arguments, contents, fitting, load_into, read
from vmemkit.nets.weights.hub import FOLDERS, available, find, require

__all__ = [
    "FOLDERS",
    "WEIGHTS",
    "arguments",
    "available",
    "contents",
    "find",
    "fitting",
    "load_into",
    "read",
    "require",
]
