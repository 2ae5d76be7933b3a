"""Scenes: worlds with known geometry, recordings of real places, and camera paths through them.

In: seeds, photographs, posed images of any common format (`load`). Out: scenes that render any camera
and know who sees what (`rooms`, `panorama`, `capture`), paths (`moves`, `orbit`, tours) and camera
files (transforms.json, RealEstate10K). Houses with walls between their rooms matter most: occlusion is
the hard part of retrieval.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
