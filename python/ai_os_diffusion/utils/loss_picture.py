"""The losses of a training as a picture."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ai_os_diffusion.utils.errors import TrainingError
from ai_os_diffusion.utils.files.atomic_file import replacing

__all__ = ["check_picture", "draw_losses"]

_CURVES = {"loss": "training", "validation_loss": "validation"}
_ENDINGS = (".svg", ".png", ".html")


def check_picture(path: Path) -> None:
    """Refuse what could not be drawn in the end, before anything is computed.

    Raises:
        TrainingError: the ending is unknown, the folder is not there, or matplotlib is missing.
    """
    if path.suffix.lower() not in _ENDINGS:
        raise TrainingError(f"{path}: expected a picture, {', '.join(_ENDINGS)}, got {path.suffix or 'none'}")
    if not path.parent.is_dir():
        raise TrainingError(f"{path}: the folder {path.parent} is not there; make it first")
    if importlib.util.find_spec("matplotlib") is None:
        raise TrainingError(f"{path}: drawing needs matplotlib: pip install 'matplotlib>=3.8'")


def draw_losses(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write a picture of the losses over the tokens.

    Args:
        records: what a training told: `tokens`, and `loss` or `validation_loss` or both.
        path: the file; its ending says whether it is SVG, PNG or a page of HTML.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    kind = path.suffix.lower().removeprefix(".")
    # The same losses, the same bytes.
    with rc_context({"svg.hashsalt": "losses", "svg.fonttype": "none"}):
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
        drawn = io.BytesIO()
        if kind == "png":
            figure.savefig(drawn, format="png", dpi=150, metadata={"Software": None})
        else:
            figure.savefig(drawn, format="svg", metadata={"Date": None})
    picture = drawn.getvalue()
    if kind == "html":
        svg = picture[picture.index(b"<svg") :]
        head = b'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Losses</title>\n'
        picture = head + svg + b"</html>\n"
    with replacing(path) as draft:
        draft.write_bytes(picture)
