"""Houses: made-up rooms with exact colour, depth and visibility from any camera.

`design.py` draws a house from a seed, `finishes.py` paints its surfaces, and `ray_casting.py` renders.
"""

from vmemkit.scenes.house.design import rooms
from vmemkit.scenes.house.finishes import Finish
from vmemkit.scenes.house.ray_casting import Rooms

__all__ = ["Finish", "Rooms", "rooms"]
