"""Books, office documents, mail and notebooks in the shapes that cost a reader most, of any size.

The size is that of the text that is unpacked, which is what a reader has to deal with.
"""

from __future__ import annotations

import base64
import json
import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from document_shapes import Shape, html, paragraph, repeated, sentence

__all__ = ["PACKED", "write_packed"]

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
ODF = "urn:oasis:names:tc:opendocument:xmlns"
BOUNDARY = "=_parts_of_this_message"


def docx(chance: random.Random, number: int) -> str:
    style = '<w:pPr><w:pStyle w:val="Heading1"/></w:pPr>' if number % 9 == 0 else ""
    return f"<w:p>{style}<w:r><w:t>{paragraph(chance)}</w:t></w:r></w:p>"


def docx_row(chance: random.Random, number: int) -> str:
    cells = (f"<w:tc><w:p><w:r><w:t>{said}</w:t></w:r></w:p></w:tc>" for said in (number, sentence(chance)))
    return f"<w:tr>{''.join(cells)}</w:tr>"


def odt(chance: random.Random, number: int) -> str:
    tag = "h" if number % 9 == 0 else "p"
    return f"<text:{tag}>{paragraph(chance)}</text:{tag}>"


def chapter(chance: random.Random, number: int) -> str:
    return html(chance, number).replace("<br>", "<br/>").replace("<th>a<th>b", "<th>a</th><th>b</th>")


def cell(chance: random.Random, number: int) -> str:
    source = [f"{sentence(chance)}\n" for _ in range(4)]
    if number % 2:
        return json.dumps({"cell_type": "markdown", "source": source, "metadata": {}}) + ",\n"
    outputs = [{"output_type": "stream", "name": "stdout", "text": source}]
    code = {"cell_type": "code", "source": "x = 1", "metadata": {}, "outputs": outputs, "execution_count": 1}
    return json.dumps(code) + ",\n"


def message(chance: random.Random, _number: int) -> str:
    subject = f"From: a@b\nSubject: {sentence(chance)}"
    return f"From a@b Mon Jan  1 00:00:00 2024\n{subject}\n\n{paragraph(chance)}\n\n"


def part(chance: random.Random, number: int) -> str:
    data = base64.encodebytes(paragraph(chance).encode()).decode()
    return (
        f"--{BOUNDARY}\nContent-Type: text/plain; name=n{number}.txt\nContent-Transfer-Encoding: base64\n"
        f"Content-Disposition: attachment; filename=n{number}.txt\n\n{data}\n"
    )


PACKED: Mapping[str, Mapping[str, Shape]] = {
    "epub": {
        "ordinary": chapter,
        "tiny_paragraphs": "<p>x</p>\n",
        "tiny_elements": "<b>x</b> ",
        "cells": "<td>x</td>",
        "nested": "<div>",
        "one_line": lambda chance, _: f"{sentence(chance)} ",
        "empty_elements": "<a/>",
        "end_tags": "x</p>\n",
        "comments": "x<!-- y -->\n",
        "headings": lambda _, number: f"<h2>t{number}</h2>",
        "chapters": lambda _, number: f"\f<p>x{number}</p>",
    },
    "docx": {
        "ordinary": docx,
        "rows": docx_row,
        "tiny_paragraphs": "<w:p><w:r><w:t>x</w:t></w:r></w:p>",
        "tiny_runs": lambda _, number: "<w:p>" * (number == 0) + "<w:r><w:t>x </w:t></w:r>" * 999,
        "empty_paragraphs": "<w:p/>",
    },
    "odt": {
        "ordinary": odt,
        "tiny_paragraphs": "<text:p>x</text:p>",
        "tiny_spans": lambda _, number: "<text:p>" * (number == 0) + "<text:span>x</text:span> " * 999,
        "headings": lambda _, number: f"<text:h>t{number}</text:h>",
    },
    "ipynb": {"ordinary": cell, "tiny_cells": '{"cell_type": "code", "source": "x", "outputs": []},\n'},
    "eml": {"ordinary": lambda chance, _: f"{paragraph(chance)}\n\n", "parts": part, "short_lines": "x\n"},
    "mbox": {"ordinary": message, "short_messages": "From a@b Jan 1 00:00\nFrom: a\n\nx\n\n"},
}


def _epub(path: Path, text: str) -> None:
    chapters = text.split("\f")
    names = [f"c{number}.xhtml" for number in range(len(chapters))]
    items = "".join(f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in names)
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    root = '<rootfile full-path="b.opf"/>'
    files = {
        "META-INF/container.xml": f"<container><rootfiles>{root}</rootfiles></container>",
        "b.opf": f"<package><metadata/><manifest>{items}</manifest><spine>{spine}</spine></package>",
    }
    files |= {
        name: f"<html><body>{chapter}</body></html>" for name, chapter in zip(names, chapters, strict=True)
    }
    _zip(path, files, "application/epub+zip")


def _docx(path: Path, text: str) -> None:
    ends = "</w:p>" * (text.count("<w:p>") - text.count("</w:p>"))
    if text.startswith("<w:tr>"):
        text = f"<w:tbl>{text}</w:tbl>"
    files = {
        "_rels/.rels": f'<R><Relationship Type="{OFFICE}" Target="word/document.xml"/></R>',
        "word/document.xml": f"<w:document {W}><w:body>{text}{ends}</w:body></w:document>",
    }
    _zip(path, files)


def _odt(path: Path, text: str) -> None:
    ends = "</text:p>" * (text.count("<text:p>") - text.count("</text:p>"))
    spaces = f'xmlns:office="{ODF}:office:1.0" xmlns:text="{ODF}:text:1.0"'
    body = f"<office:body><office:text>{text}{ends}</office:text></office:body>"
    files = {"content.xml": f"<office:document-content {spaces}>{body}</office:document-content>"}
    _zip(path, files, "application/vnd.oasis.opendocument.text")


def _zip(path: Path, files: Mapping[str, str], kind: str = "") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if kind:
            archive.writestr("mimetype", kind, zipfile.ZIP_STORED)
        for name, content in files.items():
            archive.writestr(name, content)
        # What is unpacked a hundred times or more is refused; pictures are of such a size in real documents.
        archive.writestr("picture.png", random.Random(0).randbytes(sum(map(len, files.values())) // 90))


def _ipynb(path: Path, text: str) -> None:
    path.write_text(f'{{"nbformat": 4, "metadata": {{}}, "cells": [\n{text.rstrip().rstrip(",")}\n]}}')


def _eml(path: Path, text: str) -> None:
    kind = f'multipart/mixed; boundary="{BOUNDARY}"' if text.startswith(f"--{BOUNDARY}") else "text/plain"
    path.write_text(f"From: a@b\nSubject: parts\nMIME-Version: 1.0\nContent-Type: {kind}\n\n{text}")


def _mbox(path: Path, text: str) -> None:
    path.write_text(text)


WRITERS: Mapping[str, Callable[[Path, str], None]] = {
    "epub": _epub,
    "docx": _docx,
    "odt": _odt,
    "ipynb": _ipynb,
    "eml": _eml,
    "mbox": _mbox,
}


def write_packed(path: Path, extension: str, shape: str, size_bytes: int) -> None:
    """Write a document of about a size."""
    pieces: Iterator[str] = repeated(PACKED[extension][shape], size_bytes)
    WRITERS[extension](path, "".join(pieces))
