"""Retrieval: which past views should be the context of the next ones?

In: a memory, target cameras, k. Out: a `Retrieval`: the chosen views, and all that led to them.
The memory is rendered from the targets, the visible surfels vote for the views that saw them, and a
policy selects k views from the votes. A policy is any callable `(memory, targets, k)` that returns
view indices or a `Retrieval`: pass yours as `policy=`.
Source: VMem, section 3.3. Greedy maximum coverage for retrieval: NVIDIA Lyra 2.0.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
