"""Writes the pictures of docs/guides/diffusion.md: `diffusion_pictures.py CURVE.json`.

CURVE.json is the last line of `benchmarks/diffusion_curve.py`. The unmasking is that of texts which the
pulled model `smollm2-diffusion` writes here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import accumulate
from pathlib import Path

from ai_os_diffusion.inference import ArrowEngine, DiffusionStep

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "guides" / "diffusion"
CONTEXT = (
    "Marie repaired the bicycle of Mr. Stone on Monday, 14 March. It has a new chain and costs 85 dollars. "
    "He will fetch it on Friday."
)
QUESTION = "Who mended the bicycle, and what does he have to pay?"
INFILL = "He was so {} that he fell asleep before the {} was over."
LETTER, ROW, LEFT, TOP = 7.4, 26, 44, 8
FONT = "font-family='ui-monospace,Menlo,Consolas,monospace' font-size='12'"
LABEL = "font-family='system-ui,sans-serif' font-size='12' fill='#57606a'"


def colour(confidence: float) -> str:
    """From orange, unsure, to green, sure; also told apart by brightness."""
    low, high = (253, 208, 162), (116, 196, 118)
    return "#" + "".join(f"{round(a + (b - a) * confidence):02x}" for a, b in zip(low, high, strict=True))


def drawing(width: float, height: float, parts: Iterable[str]) -> str:
    """A picture on white."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0f}' height='{height:.0f}' "
        f"viewBox='0 0 {width:.0f} {height:.0f}'>\n<rect width='100%' height='100%' fill='white'/>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def shown(token: str | None) -> str:
    """A token on one line."""
    return (token or "").strip().replace("\n", "↵")


def unmasking(steps: Sequence[DiffusionStep]) -> str:
    """A row for each pass; what it wrote is framed, and coloured by its confidence."""
    kept = len(steps[-1].canvas)
    while kept and steps[-1].canvas[kept - 1] == "":
        kept -= 1
    confidence: dict[int, float] = {}
    parts = []
    widest = [max(len(shown(step.canvas[place])) for step in steps) for place in range(kept)]
    edges = list(accumulate((LETTER * max(1, count) + 14 for count in widest), initial=LEFT))
    for row, step in enumerate(steps):
        confidence.update(zip(step.positions.tolist(), step.confidences.tolist(), strict=True))
        y = TOP + row * ROW
        parts.append(f"<text x='8' y='{y + 17}' {LABEL}>{step.step}</text>")
        for place, token in enumerate(step.canvas[:kept]):
            sure = confidence.get(place)
            fill = "#eaeef2" if token is None else "white" if sure is None else colour(sure)
            edge = "#1f2328" if place in step.positions else "#d0d7de"
            parts.append(
                f"<rect x='{edges[place]:.1f}' y='{y}' width='{edges[place + 1] - edges[place] - 4:.1f}' "
                f"height='{ROW - 4}' rx='4' fill='{fill}' stroke='{edge}'/>"
            )
            if token:
                parts.append(
                    f"<text x='{edges[place] + 5:.1f}' y='{y + 16}' {FONT}>{escape(shown(token))}</text>"
                )
    return drawing(edges[-1] + 4, TOP + len(steps) * ROW + 4, parts)


def curve(points: Mapping[str, Mapping[str, float]]) -> str:
    """F1 over passes, of fixed steps ("8 steps") and of thresholds ("threshold 0.9")."""
    rows = list(points.values())
    width, height, left, bottom = 640, 360, 60, 310
    lowest = min(row["f1"] for row in rows) // 5 * 5
    highest = max(row["f1"] for row in rows) // 5 * 5 + 5
    most = max(row["passes"] for row in rows)

    def at(row: Mapping[str, float]) -> tuple[float, float]:
        return (
            left + row["passes"] / most * (width - left - 40),
            bottom - (row["f1"] - lowest) / (highest - lowest) * (bottom - 30),
        )

    parts = []
    for value in range(int(lowest), int(highest) + 1, 5):
        y = bottom - (value - lowest) / (highest - lowest) * (bottom - 30)
        parts += [
            f"<line x1='{left}' x2='{width - 20}' y1='{y:.1f}' y2='{y:.1f}' stroke='#d0d7de'/>",
            f"<text x='{left - 10}' y='{y + 4:.1f}' text-anchor='end' {LABEL}>{value}</text>",
        ]
    for kind, shade, title in (("steps", "#0969da", "fixed steps"), ("threshold", "#1a7f37", "threshold")):
        own = [(name.replace(kind, "").strip(), *at(row)) for name, row in points.items() if kind in name]
        path = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in own)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{shade}' stroke-width='2'/>")
        for name, x, y in own:
            parts += [
                f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{shade}'/>",
                f"<text x='{x + 6:.1f}' y='{y + 16:.1f}' {LABEL}>{name}</text>",
            ]
        legend = 250 if kind == "steps" else 270
        parts += [
            f"<circle cx='{width - 140}' cy='{legend}' r='4' fill='{shade}'/>",
            f"<text x='{width - 128}' y='{legend + 4}' {LABEL}>{title}</text>",
        ]
    parts += [
        f"<text x='{left}' y='18' {LABEL}>F1, questions on their own paragraph</text>",
        f"<text x='{width - 20}' y='{height - 14}' text-anchor='end' {LABEL}>forward passes an answer</text>",
    ]
    for passes in range(0, int(most) + 1, 2):
        x = left + passes / most * (width - left - 40)
        parts.append(f"<text x='{x:.1f}' y='{bottom + 18}' text-anchor='middle' {LABEL}>{passes}</text>")
    return drawing(width, height, parts)


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(exist_ok=True)
    with ArrowEngine("smollm2-diffusion", device="cpu") as engine:
        answer = list(engine.diffuse_stream(QUESTION, context=CONTEXT, max_tokens=16))
        gaps = list(engine.diffuse_stream(infill=INFILL, max_fill=6))
    (FOLDER / "answer.svg").write_text(unmasking(answer), encoding="utf-8")
    (FOLDER / "infill.svg").write_text(unmasking(gaps), encoding="utf-8")
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    (FOLDER / "curve.svg").write_text(curve(json.loads(lines[-1])["curve"]), encoding="utf-8")


if __name__ == "__main__":
    main()
