"""Figures: values in, pictures, charts and 3-D scenes out. They are returned, never shown.

A *picture* is printed by matplotlib (`sheets.py`, `bird_view.py`, `house_drawings.py`).
A *chart* is plotted by plotly and answers to the pointer (`charts.py`).
A *scene* can be turned and clicked on (`scene3d.py`).
An *image* is a tensor: `renderings.py` makes images of memories and retrievals.
`video.py` writes a walk as a video.
`colors.py` and `palettes.py` give views and surfels their colours, the same in all figures.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
