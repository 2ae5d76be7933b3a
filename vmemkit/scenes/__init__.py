"""Scenes: worlds with a known truth, recordings of real ones, and ways through them.

In: seeds, photographs, folders. Out: scenes that render any camera (`rooms`, `panorama`, `capture`),
trajectories (`moves`, `orbit`, tours) and camera files (transforms.json, RealEstate10K).
Houses with walls between their rooms matter most: occlusion is what the memory has to get right.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
