"""Check that the questions fit the documents: `check.py FOLDER`, where `fetch.py` put them.

Every answering line must stand in its document, and an accepted answer in its lines, where it is one that
can. The documents are read here by other means than the product's, which is what is judged by them.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from judging import flat, is_right, says
from real_documents import questions_of

# Characters to either side of a line in which the accepted answer must be told.
AROUND = 500
# Places of a document, in characters, and how many of them may hold an accepted answer by chance.
WINDOW = 400
FEW = 3
MOST_SHARE = 0.1


class _VisibleText(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, _attrs: Sequence[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("script", "style", "title")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style", "title")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


@cache
def text_of(file: Path) -> str:
    """All words of a document."""
    data = file.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data.startswith(b"%PDF-"):
        from pypdfium2 import PdfDocument

        return "\n".join(page.get_textpage().get_text_range() for page in PdfDocument(data))
    text = data.decode("utf-8", "replace")
    if file.suffix == ".html":
        reader = _VisibleText()
        reader.feed(text)
        return "".join(reader.pieces)
    return text


def faults(question: Mapping[str, Any], documents: Path) -> list[str]:
    """What is wrong with a question."""
    found, shown = [], []
    for document, line in question["lines"]:
        if not (documents / document).is_file():
            found.append(f"{document} is not there")
            continue
        text = flat(text_of(documents / document))
        places = [place.start() for place in re.finditer(line, text)]
        if not places:
            found.append(f"{line!r} is not in {document}")
        shown += [text[max(0, place - AROUND) : place + AROUND] for place in places]
    told = " ".join(shown)
    found += [
        f"none of {patterns} is near the lines"
        for patterns in question["answers"]
        if shown and not says(told, patterns)
    ]
    if is_right(question["question"], question["answers"]):
        found.append("the question itself would be a right answer")
    if bool(question["lines"]) != bool(question["answers"]):
        found.append("there are answers without lines, or lines without answers")
    return found


def other_places(question: Mapping[str, Any], documents: Path) -> list[str]:
    """Documents that a line stands in too, but which the question does not name."""
    named = {document for document, _ in question["lines"]}
    return [
        f"{line!r} is in {name} too"
        for file in sorted(documents.rglob("*"))
        if file.is_file() and (name := file.relative_to(documents).as_posix()) not in named
        for _, line in question["lines"]
        if re.search(line, _flat_text(file))
    ]


def loose(question: Mapping[str, Any], documents: Path) -> list[str]:
    """Documents of which other places would be taken for the answer, more than a few."""
    found = []
    for name in {document for document, _ in question["lines"]}:
        text = _flat_text(documents / name)
        lines = [line for document, line in question["lines"] if document == name]
        told = [place.start() for line in lines for place in re.finditer(line, text)]
        windows = [
            text[start : start + WINDOW]
            for start in range(0, len(text), WINDOW)
            if all(abs(place - start - WINDOW / 2) >= AROUND + WINDOW for place in told)
        ]
        right = sum(is_right(window, question["answers"]) for window in windows)
        if right > FEW and right > MOST_SHARE * len(windows):
            found.append(f"{right} of {len(windows)} other places of {name} would be right")
    return found


@cache
def _flat_text(file: Path) -> str:
    return flat(text_of(file))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where fetch.py put the documents")
    documents = parser.parse_args().folder / "documents"
    questions = [question for split in ("tune", "test") for question in questions_of(split)]
    wrong = 0
    for question in questions:
        for fault in (
            found for check in (faults, other_places, loose) for found in check(question, documents)
        ):
            print(f"{question['id']}: {fault}")
            wrong += 1
    print(f"{len(questions)} questions, {wrong} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
