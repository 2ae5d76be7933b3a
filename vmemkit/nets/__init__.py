"""Networks of the published models, and the files that hold their weights.

`unet/` is the multi-view UNet of SEVA and VMem, `cut3r/` the geometry network, and `weights/` finds,
downloads and loads checkpoints. Parameters keep their published names. Constructors only build: they
download and load nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
