"""A text while it is written by diffusion, on stderr, and only where somebody watches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from ai_os_diffusion.cli.terminal.streams import styled
from ai_os_diffusion.utils.visible_text import visible_line

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from ai_os_diffusion.inference import DiffusionStep

__all__ = ["Unmasking"]

_OPEN = "░"
# The surer, the greener; the first that a confidence reaches. Chosen to differ in brightness too.
_COLOURS = ((0.9, "bright_green"), (0.7, "green"), (0.4, "yellow"), (0.0, "red"))


class Unmasking:
    """Shows the canvas after each pass, tokens coloured by their confidence; silent without a terminal.

    What it showed vanishes with the block: the text itself is the caller's to print.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._confidence: dict[int, float] = {}
        self._live: Live | None = None

    def show(self, step: DiffusionStep) -> None:
        """Show what a pass left."""
        if not self._shown:
            return
        self._confidence.update(zip(step.positions.tolist(), step.confidences.tolist(), strict=True))
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(file=styled(sys.stderr)),
                transient=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(self._drawn(step.step, step.canvas), refresh=True)

    def _drawn(self, number: int, canvas: Sequence[str | None]) -> Table:
        from rich.table import Table
        from rich.text import Text

        drawn = Text()
        for place, token in enumerate(canvas):
            if token is None:
                drawn.append(_OPEN, "dim")
            else:
                # On one line: a break in what is written would begin a line of ours.
                drawn.append(visible_line(token), self._colour(place))
        # In a column of its own: none of its rows begins where lines of ours do.
        row = Table.grid(padding=(0, 1))
        row.add_row(Text(f"{number:>3}", style="dim"), drawn)
        return row

    def _colour(self, place: int) -> str:
        # What was given has no confidence.
        confidence = self._confidence.get(place)
        return "" if confidence is None else next(name for least, name in _COLOURS if confidence >= least)

    def __enter__(self) -> Unmasking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
