"""Widgets: the stages to step through, to steer and to compare, in a notebook.

They hold no logic: each hands its controls to the functions of the stages and shows what comes back.
All are boxes of ipywidgets with a `value`, work without a browser (set a control, read a picture),
and show errors as messages.
"""

from vmemkit.widgets.explorer import Explorer
from vmemkit.widgets.inspector import RetrievalInspector
from vmemkit.widgets.race import PolicyRace
from vmemkit.widgets.scrubber import SamplingScrubber
from vmemkit.widgets.stepper import StepThrough
from vmemkit.widgets.viewer import MemoryViewer

__all__ = [
    "Explorer",
    "MemoryViewer",
    "PolicyRace",
    "RetrievalInspector",
    "SamplingScrubber",
    "StepThrough",
]
