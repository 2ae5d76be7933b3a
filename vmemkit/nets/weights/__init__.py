"""Weight files: which there are, where they are, and how they are read.

`catalogue.py` lists them with owners and licences, `download.py` finds or downloads them, and
`checkpoints.py` reads files that may come from anywhere and loads them strictly. `libraries.py` loads
models of diffusers and transformers, and `fingerprints.py` tells which weights a network has.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
