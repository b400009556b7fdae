"""What the controls of an ODT's forms show: labels, what was typed, and what can be chosen."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["OdtForms"]

_NOT_SHOWN = frozenset(("hidden", "password"))


class OdtForms:
    """Takes the forms of a document, which stand above its text; the text says where each control is."""

    def __init__(self) -> None:
        self._said: dict[str, list[str]] = {}
        # Of the elements that are open; None for one that is no control, or not shown.
        self._open: list[list[str] | None] = []

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """As `XmlHandler.start`, below `office:forms`."""
        above = self._open[-1] if self._open else None
        control = attributes.get("id")
        if name in _NOT_SHOWN:
            above = None
        elif control is not None:
            above = self._said.setdefault(control, [])
        self._open.append(above)
        if above is not None:
            shown = (attributes.get("label"), attributes.get("current-value", attributes.get("value")))
            above += filter(None, shown)

    def end(self) -> None:
        """As `XmlHandler.end`."""
        self._open.pop()

    def text(self, text: str) -> None:
        """As `XmlHandler.text`; what stands in a control was typed into it."""
        if self._open and self._open[-1] is not None:
            self._open[-1].append(text)

    def take(self, control: str) -> str:
        """What a control shows, once."""
        return " ".join(" ".join(self._said.pop(control, ())).split())
