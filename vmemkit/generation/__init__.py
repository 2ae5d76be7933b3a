"""Generation: context views and target cameras in, target views out.

A generator is any callable `(context, targets, rng) -> iterator of Generation`; the last one yielded
is the result. `Warp` moves the context's pixels, `Writer` writes the rest of a made-up house; neither
needs weights. `preset` builds the published diffusion models from weight files.
Source: VMem, section 3.3; Stable Virtual Camera (Zhou et al., 2025).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
