"""Houses: made-up rooms with exact colour, depth and visibility from any camera.

`design.py` draws a house from a seed, `finishes.py` paints its surfaces, and `ray_casting.py` renders.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
