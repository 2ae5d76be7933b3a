"""Figures: values in, pictures, charts and 3-D scenes out. They are returned, never shown.

`sheets.py` and `floor_plan.py` make printed figures (matplotlib), `charts.py` plots (plotly),
`pictures.py` and `palettes.py` colours of pixels and surfels, `scene3d.py` scenes to turn (pythreejs).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
