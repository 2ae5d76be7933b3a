"""Memory: all views, all surfels, and the sightings (which view saw which surfel).

In: views with depth. Out: a `Memory`, a value that `write` makes longer and `truncate` shorter.
A surfel that is seen again gets a sighting; it is not moved. So tables only grow at their end,
undo is truncation, and a fork shares what both remember.
Source: VMem, section 3.2. How new surfels meet old ones is in `association.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
