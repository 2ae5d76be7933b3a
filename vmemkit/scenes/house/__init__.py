"""Houses: procedural rooms with exact colour, depth and visibility from any camera.

`plan.py` says what a house consists of, `designer.py` draws a plan from a seed, `building.py` makes a
scene of a plan, `finishes.py` paints its surfaces, and `ray_casting.py` renders it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
