"""Exports: what a walk has made, as files of other programs.

In: a memory, its cameras, or the steps of a walk. Out: files and folders: COLMAP, nerfstudio, PLY, GLB,
films, camera paths, and a page that explains the walk. A file or folder appears complete or not at
all. `FORMATS` lists them; each function says what it writes, in which frame, and after which source.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
