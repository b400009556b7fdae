"""Seconds to read 1, 2, 5 and 10 MB of every format, without embedding: bounded and linear.

Usage: python benchmarks/reading.py [FORMAT ...]
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable

from ai_os_diffusion.ingestion import read_document

SIZES_MB = (1, 2, 5, 10)
LETTERS = random.Random(0)
WORDS = [
    "".join(LETTERS.choices("etaoinshrdlucmfwypvbgkjqxz", k=LETTERS.randint(2, 11))) for _ in range(4000)
]


def sentence(chance: random.Random) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(4, 18))).capitalize() + "."


def paragraph(chance: random.Random) -> str:
    return " ".join(sentence(chance) for _ in range(chance.randint(1, 6)))


def text(chance: random.Random, number: int) -> str:
    title = sentence(chance)
    return (
        f"{title}\n{'=' * len(title)}\n\n{paragraph(chance)}\n\n"
        if number % 9 == 0
        else paragraph(chance) + "\n\n"
    )


def markdown(chance: random.Random, number: int) -> str:
    parts = (
        f"## {sentence(chance)}\n\n{paragraph(chance)}\n\n",
        "".join(f"- {sentence(chance)}\n  - {sentence(chance)}\n" for _ in range(4)) + "\n",
        f"| {sentence(chance)} | b |\n|---|---|\n| {sentence(chance)} | 1 |\n\n",
        f"```python\nx = {number}\n\nprint(x)\n```\n\n> {sentence(chance)}\n\n",
        f"{paragraph(chance)} [link](http://e.org/{number}) *so* `it` is.\n\n",
    )
    return parts[number % len(parts)]


def html(chance: random.Random, number: int) -> str:
    parts = (
        f"<h2 class='title'>{sentence(chance)}</h2>\n<p>{paragraph(chance)}</p>\n",
        "<ul>"
        + "".join(f"<li><a href='/x/{number}'>{sentence(chance)}</a></li>\n" for _ in range(5))
        + "</ul>\n",
        f"<table><tr><th>a<th>b</tr><tr><td>{sentence(chance)}<td><b>{number}</b></tr></table>\n",
        f"<div class='a b'><p>{sentence(chance)} &amp; <i>{sentence(chance)}</i><br>{number}</div>\n",
    )
    return parts[number % len(parts)]


def code(chance: random.Random, number: int) -> str:
    body = f"    int y = x * {number};\n\n    return y;\n"
    return f"/* {sentence(chance)} */\nint f{number}(int x) {{\n{body}}}\n\n"


def python(chance: random.Random, number: int) -> str:
    return (
        f'class C{number}:\n    """{sentence(chance)}"""\n\n    def f(self, x: int) -> int:\n'
        f'        """{sentence(chance)}"""\n        y = "{sentence(chance)}"\n        return x\n\n'
    )


def jsonl(chance: random.Random, number: int) -> str:
    record = {
        "id": number,
        "title": sentence(chance),
        "text": paragraph(chance),
        "tags": ["a", "b"],
        "n": number,
    }
    return json.dumps(record) + "\n"


MAKERS: dict[str, Callable[[random.Random, int], str]] = {
    "txt": text,
    "md": markdown,
    "html": html,
    "c": code,
    "py": python,
    "jsonl": jsonl,
}


def document(extension: str, megabytes: int) -> bytes:
    chance, parts, size, number = random.Random(1), [], 0, 0
    while size < megabytes * 1_000_000:
        parts.append(MAKERS[extension](chance, number))
        size += len(parts[-1])
        number += 1
    return "".join(parts).encode()


def main() -> None:
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for extension in sys.argv[1:] or MAKERS:
        figures[extension] = {}
        for megabytes in SIZES_MB:
            data = document(extension, megabytes)
            wall, processor = time.perf_counter(), time.process_time()
            blocks = len(read_document(f"a.{extension}", data).blocks)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            figures[extension][str(megabytes)] = {"wall": round(wall, 2), "processor": round(processor, 2)}
            print(f"{extension:5} {megabytes:3} MB {wall:6.2f} s, CPU {processor:.2f} s, {blocks} blocks")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds_by_megabytes": figures, "peak_mb": peak}))


if __name__ == "__main__":
    main()
