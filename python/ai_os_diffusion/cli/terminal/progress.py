"""Progress on stderr, and only where somebody watches."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from ai_os_diffusion.cli.terminal.streams import styled
from ai_os_diffusion.cli.terminal.wrapping import width_of
from ai_os_diffusion.utils.visible_text import visible_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar"]

# Cells for a bar, amounts, rate and time, and some of what is being done.
_WIDE = 100


class ProgressBar:
    """A bar with rate and time left; silent when stderr is no terminal or `quiet` is set.

    Called as `bar(stage, done, total)`; a new stage starts a new line. It is gone when the work is done.
    """

    def __init__(self, *, unit: str = "", quiet: bool = False) -> None:
        """Set up.

        Args:
            unit: "bytes" shows sizes and bytes per second; any other word counts things.
            quiet: show nothing.
        """
        self._unit = unit
        self._shown = sys.stderr.isatty() and not quiet
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: float, total: float | None = None, remark: str = "") -> None:
        """Tell how far a stage is; its name and the remark may be foreign."""
        if not self._shown:
            return
        stage, remark = visible_line(stage), visible_line(remark)
        if self._progress is None:
            self._progress = _new_progress(self._unit)
            self._progress.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._progress.add_task(stage, total=total, remark=remark)
        self._progress.update(self._tasks[stage], completed=done, total=total, remark=remark)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _new_progress(unit: str) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.table import Column

    width = width_of(sys.stderr)
    counts = (DownloadColumn(), TransferSpeedColumn()) if unit == "bytes" else (MofNCompleteColumn(),)
    columns = (BarColumn(bar_width=24), *counts, TimeRemainingColumn(compact=True))
    return Progress(
        TextColumn("{task.description}", markup=False),
        # On a narrow terminal how far it is, alone.
        *(columns if (width or _WIDE) >= _WIDE else (TextColumn("{task.percentage:>3.0f}%", markup=False),)),
        # One line: what does not fit is cut.
        TextColumn(
            "{task.fields[remark]}",
            style="dim",
            markup=False,
            table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
        ),
        console=Console(file=styled(sys.stderr), width=width),
        expand=True,
        transient=True,
        # What is written beside the bar goes where it belongs: data to stdout, and nothing through Rich's
        # reader of escape sequences.
        redirect_stdout=False,
        redirect_stderr=False,
    )
