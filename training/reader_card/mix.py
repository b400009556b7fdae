"""Rows of several files as one, with fewer passages each: `mix.py OUT FILE... [--negatives 4] [--most N]`.

`--of KIND=N` keeps so many of a kind, `--each N` of every other.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
from collections import defaultdict
from pathlib import Path

_HARDEST = 2


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--most", type=int, help="rows that are drawn of all")
    parser.add_argument("--each", type=int, help="rows of every other kind at most")
    parser.add_argument("--of", nargs="+", default=[], metavar="KIND=N", help="rows of a kind at most")
    options = parser.parse_args()
    rng, lines = random.Random(0), []
    room: defaultdict[str, float] = defaultdict(lambda: options.each or math.inf)
    room.update((kind, int(count)) for kind, _, count in (one.partition("=") for one in options.of))
    for path in options.files:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines += file
    if options.most and options.most < len(lines):
        lines = rng.sample(lines, options.most)
    written = 0
    with gzip.open(options.out, "wt", 1, encoding="utf-8") as out:
        for line in rng.sample(lines, len(lines)) if options.of or options.each else lines:
            row = json.loads(line)
            room[row["kind"]] -= 1
            if room[row["kind"]] < 0:
                continue
            written += 1
            good = [one for one in row["passages"] if one.get("relevant", bool(one.get("answers")))]
            bad = [one for one in row["passages"] if one not in good]
            # The hardest stand first, those of other documents last.
            kept = bad[:_HARDEST]
            kept += rng.sample(bad[_HARDEST:], min(len(bad[_HARDEST:]), options.negatives - len(kept)))
            out.write(json.dumps({**row, "passages": [*good, *kept]}, ensure_ascii=False) + "\n")
    print(written)


if __name__ == "__main__":
    main()
