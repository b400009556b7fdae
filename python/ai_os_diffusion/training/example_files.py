"""Examples from JSON Lines files."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from ai_os_diffusion.training.example import Example, Piece
from ai_os_diffusion.utils.errors import TrainingError

__all__ = ["ExampleFiles", "example_paths", "read_examples", "read_objects"]

_ENDINGS = (".jsonl", ".jsonl.gz")
_MAX_LINE = 16 << 20


class ExampleFiles:
    """The rows of files, all of them in memory, drawn by their weights.

    Of a text without a prompt a stretch is drawn, anew each time.

    Args:
        paths: `.jsonl` and `.jsonl.gz`, and folders of them.
        kinds: share of each kind in a batch; empty for as many as there are rows.
        text_chars: characters of a stretch of text.

    Raises:
        TrainingError: a file or row is not as it should be; file and line are named.
    """

    def __init__(self, paths: Sequence[Path], kinds: Mapping[str, float], *, text_chars: int = 1600) -> None:
        self._chars = text_chars
        self._rows: dict[str, list[Example]] = defaultdict(list)
        weights: dict[str, list[float]] = defaultdict(list)
        for path in example_paths(paths):
            for example, weight in read_examples(path):
                self._rows[example.kind].append(example)
                weights[example.kind].append(weight)
        if not self._rows:
            raise TrainingError(f"{', '.join(map(str, paths))}: no examples; expected a JSON object a line")
        if strange := sorted(set(kinds) - set(self._rows)):
            raise TrainingError(
                f"data.kinds: there is no kind {strange[0]!r} in the files; there are {', '.join(self._rows)}"
            )
        self._weights = {kind: list(itertools.accumulate(found)) for kind, found in weights.items()}
        self.kinds: Mapping[str, float] = kinds or {kind: sums[-1] for kind, sums in self._weights.items()}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def draw(self, kind: str, rng: random.Random) -> Example:
        """A row of a kind."""
        example = rng.choices(self._rows[kind], cum_weights=self._weights[kind])[0]
        if example.prompt or example.has_gaps or len(example.pieces[0].text) <= self._chars:
            return example
        text = example.pieces[0].text
        begin = rng.randrange(len(text) - self._chars + 1)
        # At a word's beginning, where one is near: what stands before a cut word is not there to be seen.
        begin = text.find(" ", begin, begin + 40) if begin else begin
        begin = max(begin, 0)
        return replace(example, pieces=(Piece(text[begin : begin + self._chars]),))


def example_paths(paths: Sequence[Path]) -> Iterator[Path]:
    """The files, and those of folders by their names.

    Raises:
        TrainingError: one is not there, or a folder has none.
    """
    for path in paths:
        if path.is_file():
            yield path
            continue
        found = sorted(file for file in path.glob("*") if file.name.endswith(_ENDINGS))
        if not found:
            raise TrainingError(
                f"{path}: not found; expected a file, or a folder of {' and '.join(_ENDINGS)}"
            )
        yield from found


def read_examples(path: Path) -> Iterator[tuple[Example, float]]:
    """The examples of a file, with their weights.

    Raises:
        TrainingError: as for `Example.of` and `read_objects`.
    """
    for row, place in read_objects(path):
        yield Example.of(row, place)


def read_objects(path: Path) -> Iterator[tuple[Mapping[str, object], str]]:
    """The objects of a file, and what names each in errors.

    Raises:
        TrainingError: it cannot be read, or a line is no JSON object; file and line are named.
    """
    number = 0
    try:
        with _opened(path) as lines:
            for number, line in enumerate(iter(lambda: lines.readline(_MAX_LINE), b""), 1):
                place = f"{path}:{number}"
                if len(line) == _MAX_LINE:
                    raise TrainingError(
                        f"{place}: longer than {_MAX_LINE >> 20} MB; expected a JSON object a line"
                    )
                if line.strip():
                    yield _object(line, place), place
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise TrainingError(f"{path}: cannot be read behind line {number}: {error}") from error


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _object(line: bytes, place: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{place}: no JSON: {error}") from error
    if not isinstance(row, dict):
        raise TrainingError(f"{place}: expected an object, got {type(row).__name__}")
    return row
