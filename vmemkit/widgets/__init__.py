"""Widgets: the stages to step through, to steer and to compare, in a notebook.

They hold no logic: each hands its controls to the functions of the stages and shows what comes back.
All are boxes of ipywidgets with a `value`, work without a browser (set a control, read a picture),
and show errors as messages.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
