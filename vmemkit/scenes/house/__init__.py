"""Houses: procedural rooms with exact colour, depth and visibility from any camera.

`design.py` makes a house from a seed, `finishes.py` paints its surfaces, `ray_casting.py` renders it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
