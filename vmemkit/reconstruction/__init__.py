"""Reconstruction: the geometry of new views.

In: views, with or without depth. Out: points, depth and a confidence for each pixel. `from_depth`
trusts the depth that a generator made, and `oracle(scene)` renders the true one. `cut3r()` gets
depth from the published network and fits it to the depth that the memory knows. `start_from_photo`
makes the first view of a walk from a photo, also without depth.
Source: VMem, section 3.2; CUT3R (Wang et al., CVPR 2025).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
