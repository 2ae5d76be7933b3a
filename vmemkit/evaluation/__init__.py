"""Evaluation: what is a good retrieval, generation or reconstruction?

In: walks, policies, generators or reconstructors. Out: numbers, in rows that can be printed or saved.
Coverage needs no generator: the share of target pixels whose true surface point a chosen view saw.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
