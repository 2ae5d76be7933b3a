"""Diffusion: the multi-view latent diffusion model of SEVA and VMem, part by part.

In: context views and target cameras. Out: images without depth. `codecs.py` turns views into latents,
`conditioning.py` turns cameras into rays, `sampling.py` turns noise into latents step by step, and
`diffusion.py` chains them.
Source: VMem, section 3.3; Stable Virtual Camera (Zhou et al., 2025); EDM (Karras et al., 2022).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
