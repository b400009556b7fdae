"""The losses of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.files.atomic_file import replacing

__all__ = ["draw_losses"]

_CURVES = {"loss": "training", "validation_loss": "validation"}


def draw_losses(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write an SVG of the losses over the tokens.

    Args:
        records: of a `Journal`.
        path: the file.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    # The same losses, the same bytes.
    with rc_context({"svg.hashsalt": "losses", "svg.fonttype": "none"}), replacing(path) as draft:
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        for key, label in _CURVES.items():
            found = [(record["tokens"], record[key]) for record in records if key in record]
            if found:
                axes.plot(*zip(*found, strict=True), label=label, marker="." if len(found) < 40 else "")
        axes.set_xlabel("positions")
        axes.set_ylabel("loss, nats")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
        figure.savefig(draft, format="svg", metadata={"Date": None})
