"""Serving: one generator for many notebooks, on Ray Serve.

In: a generator. Out: a server that makes windows for all who have its token, several at once and in
batches; `vm.generation.Remote` asks it. `door.py` is the only thing that listens: it checks token and
sizes. `replicas.py` makes the windows in processes of their own, `server.py` starts and stops all.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
