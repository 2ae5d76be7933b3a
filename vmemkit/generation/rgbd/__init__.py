"""RGB-D diffusion: a small pixel model that ships with its weights. Experimental.

In: context views with depth and target cameras. Out: target views with depth, 64 x 64 pixels.
`rgbd.py` is the generator; `room_box.py` guesses the shape of the room that it starts from.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
