"""Networks of the published models, and the files that hold their weights.

`unet/` is the multi-view UNet of SEVA and VMem, `cut3r/` the geometry network, and `weights/` finds,
downloads and loads checkpoints. Parameters keep their published names. Constructors only build: they
download and load nothing.
"""
