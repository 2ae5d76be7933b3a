"""Training of the small generator, on made-up rooms or on recordings of your own.

In: a seed and settings. Out: a `Run`, which can be stopped, saved and resumed, and its weights.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
