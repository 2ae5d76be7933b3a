"""SessionSteps: any step of a session, opened in another widget."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import ipywidgets

from vmemkit.pipeline import Step
from vmemkit.sessions import Session
from vmemkit.widgets.parts import DESCRIPTION, Message, close_all, words_of
from vmemkit.widgets.stepper import StepThrough


class SessionSteps(ipywidgets.VBox):
    """The steps of a session in a menu, and the chosen one in a widget: `value`. `node` is the menu; it
    begins at the head. Errors are messages, and the widget stays."""

    def __init__(
        self,
        session: Session | str | os.PathLike,
        make: Callable[[Step], ipywidgets.Widget] = StepThrough.of,
    ) -> None:
        """`make` makes the widget of a step: `StepThrough.of`, `RetrievalInspector.of`, or your own. A
        folder is read only, so that another page may go on walking in it.

        Errors: ValueError for a session without steps, and a damaged one.
        """
        if not isinstance(session, Session):
            session = Session(Path(session), readonly=True)
        steps = [entry for entry in session.tree if entry.parent is not None]
        if not steps:
            raise ValueError(f"the session in {session.folder} has no step yet: take one first")
        self.session, self._make = session, make
        names = [(f"{entry.id}: {entry.label or entry.moved}", entry.id) for entry in steps]
        at = session.head if session.entry().parent is not None else steps[0].id
        self.node = ipywidgets.Dropdown(
            options=names, value=at, description="step", style=DESCRIPTION
        )
        self.message, self.value = Message(), make(session.step(at))
        self.node.observe(self._chosen, "value")
        super().__init__([self.node, self.message, self.value])

    def __repr__(self) -> str:
        return f"SessionSteps({len(self.node.options)} steps)"

    def _chosen(self, change: dict) -> None:
        self.message.say("")
        try:
            made = self._make(self.session.step(change["new"]))
        except Exception as error:
            self.message.warn(words_of(error))
            return
        before, self.value = self.value, made
        self.children = [self.node, self.message, made]
        close_all(before)
