"""Sessions: walks on disk, as a tree of steps that nothing can lose.

In: a memory, and steps as they are taken. Out: every step as it was, to the bit, without running a
generator, a reconstructor or a write again. A session is a folder: a journal, to which records are
only appended, and beside it one file of tensors per record. A step that was added outlives a crash
and a power cut. `README.md` in this folder describes the format.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
