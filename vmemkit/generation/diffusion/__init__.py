"""Diffusion: the multi-view latent diffusion model of SEVA and VMem, part by part.

In: context views and target cameras. Out: images without depth. Views become latents (`codecs.py`),
cameras become rays (`conditioning.py`), noise becomes latents step by step (`sampling.py`).
Source: VMem, section 3.3; Stable Virtual Camera (Zhou et al., 2025); EDM (Karras et al., 2022).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
