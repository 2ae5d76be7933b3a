"""Widgets: the stages to step through, to steer and to compare, in a notebook.

They hold no logic: controls call the functions of the stages and of the figures, which draw.
Each is a box of ipywidgets with a `value` and works without a browser: set a control, read a trait.
Errors are shown as messages.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
