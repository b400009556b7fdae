"""Documents as items: paragraphs, definitions, rows of tables and functions, each under its headings."""

from __future__ import annotations

import ast
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Document", "Item", "html_document", "manual_page", "python_module", "text_document"]

_SPACE = re.compile(r"\s+")
_STRUCK = re.compile(".\x08")
_SKIPPED = {
    "script",
    "style",
    "nav",
    "header",
    "footer",
    "form",
    "head",
    "noscript",
    "button",
    "svg",
    "select",
}
_NAVIGATION = re.compile(
    r"\b(nav|sidebar|toc|breadcrumbs?|footer|header|menu|related|headerlink|search)", re.I
)


@dataclass
class Item:
    """A piece of a document.

    Attributes:
        kind: paragraph, definition, row, or function.
        text: of a paragraph; the body of a definition, or the docstring of a function.
        term: what is defined; the cells of a row by header, joined; the signature of a function.
        cells: of a row, with the names of columns.
    """

    kind: str
    text: str
    term: str = ""
    cells: tuple[tuple[str, str], ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()
    headings: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """As a reader sees it."""
        if self.kind == "row":
            return self.term
        if self.kind == "function":
            return f'{self.term}\n    """{self.text}"""'
        return f"{self.term}\n    {self.text}" if self.term else self.text


@dataclass
class Document:
    """A file.

    Attributes:
        name: what people call what it is about.
        kind: manual, html, text, or code.
        package: it came in.
        language: two letters.
    """

    name: str
    kind: str
    package: str
    language: str
    items: list[Item] = field(default_factory=list)


def plain(text: str) -> str:
    """One line, without the marks of headings."""
    return _SPACE.sub(" ", _STRUCK.sub("", text).replace("¶", "").replace("\u200b", "")).strip()


def manual_page(path: Path, package: str, language: str) -> Document | None:
    """A manual page as groff renders it."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    name = re.sub(r"\.\d\w*$", "", path.stem.split("__")[-1])
    document = Document(name, "manual", package, language)
    section, below = "", ""
    chunk: list[str] = []

    def flush() -> None:
        headings = tuple(filter(None, (f"{name} manual", section, below)))
        for item in _indented(chunk):
            item.headings = headings
            document.items.append(item)
        chunk.clear()

    for line in lines[1:]:
        if not line.strip():
            chunk.append("")
            continue
        indent = len(line) - len(line.lstrip())
        if indent == 0 and len(line) < 60:
            flush()
            section, below = line.strip(), ""
        elif indent == 3 and len(line) < 90:
            flush()
            below = line.strip()
        else:
            chunk.append(line.rstrip())
    flush()
    # The last line of a page is its footer.
    return document if len(document.items) > 1 else None


def _indented(lines: list[str]) -> Iterator[Item]:
    """Paragraphs and definitions of a section by what is indented."""
    depths = [len(line) - len(line.lstrip()) if line else -1 for line in lines]
    base = min((depth for depth in depths if depth >= 0), default=0)
    term: list[str] = []
    body: list[str] = []
    text: list[str] = []

    def done() -> Iterator[Item]:
        if text:
            yield Item("paragraph", _joined(text))
        if term and body:
            yield Item("definition", _joined(body), plain(" ".join(term)))
        elif term:
            yield Item("paragraph", _joined(term))
        for kept in (term, body, text):
            kept.clear()

    for at, line in enumerate(lines):
        depth = depths[at]
        if depth < 0:
            if text:
                yield from done()
            elif body:
                body.append("")
            continue
        if depth > base + 1:
            (body if term else text).append(line.strip())
            continue
        # At the margin: a term with its body beside or below it, or a paragraph.
        beside = re.match(r"\s*(\S(?:.{0,5}\S)?)\s{2,}(\S.*)$", line)
        following = depths[at + 1] if at + 1 < len(depths) else -1
        if beside and base + 3 <= line.find(beside[2]) <= base + 9 and following != base and not text:
            yield from done()
            term.append(beside[1])
            body.append(beside[2])
        elif following > base + 2 and len(line.strip()) < 100 and not text:
            if body:
                yield from done()
            term.append(line.strip())
        elif following == base and len(line.strip()) < 70 and line.strip().startswith("-") and not text:
            if body:
                yield from done()
            term.append(line.strip() + ",")
        else:
            if term:
                yield from done()
            text.append(line.strip())
    yield from done()


def _joined(lines: list[str]) -> str:
    """Paragraphs of lines as text, words that were cut joined."""
    text = "\n".join(lines).strip("\n")
    text = re.sub(r"[‐\u00ad]\n\s*", "", text)
    return "\n".join(plain(part) for part in re.split(r"\n\s*\n", text) if part.strip())


def html_document(path: Path, package: str, name: str, language: str) -> Document | None:
    """A page, without what leads around in it."""
    from lxml import etree, html

    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    try:
        tree = html.fromstring(content)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return None
    document = Document(name, "html", package, language)
    headings: list[str] = []

    def text_of(node) -> str:
        return plain(node.text_content())

    def is_skipped(node) -> bool:
        if not isinstance(node.tag, str) or node.tag in _SKIPPED or node.get("role") == "navigation":
            return True
        label = f"{node.get('class') or ''} {node.get('id') or ''}"
        return node.tag in ("div", "ul", "p", "table", "aside") and bool(_NAVIGATION.search(label))

    def add(item: Item) -> None:
        item.headings = tuple(headings)
        document.items.append(item)

    def walk(node) -> None:
        if is_skipped(node):
            return
        tag = node.tag
        if re.fullmatch("h[1-6]", tag):
            title = text_of(node)
            if title and len(title) < 200:
                del headings[int(tag[1]) - 1 :]
                headings.append(title)
        elif tag == "dl":
            terms: list[str] = []
            for child in node:
                if child.tag == "dt":
                    terms.append(re.sub(r"\s*\[(source|src)\]\s*$", "", text_of(child)))
                elif child.tag == "dd":
                    defined(child, terms)
                    terms = []
                else:
                    walk(child)
        elif tag == "table":
            table(node)
        elif tag in ("p", "pre", "blockquote", "li") and not node.xpath(
            ".//dl|.//table|.//p|.//pre|.//ul|.//h3"
        ):
            if text := (_STRUCK.sub("", node.text_content()).strip() if tag == "pre" else text_of(node)):
                add(Item("paragraph", text if tag != "li" else f"- {text}"))
        else:
            for child in node:
                walk(child)

    def defined(node, terms: list[str]) -> None:
        own, inner = [plain(node.text or "")], []
        for child in node:
            if not isinstance(child.tag, str):
                continue
            if (
                child.tag in ("dl", "table", "section", "div", "ul", "ol")
                and inner is not None
                and (child.tag != "div" or child.xpath(".//dl|.//table"))
            ):
                inner.append(child)
            else:
                own.append(text_of(child))
            own.append(plain(child.tail or ""))
        body = "\n".join(filter(None, own))
        term = ", ".join(filter(None, terms))
        if term and body and len(term) < 200:
            add(Item("definition", body, term))
        elif body:
            add(Item("paragraph", body))
        for child in inner:
            walk(child)

    def table(node) -> None:
        rows = [[text_of(cell) for cell in row.xpath("./td|./th")] for row in node.xpath(".//tr")]
        heads = node.xpath(".//tr[1]/th")
        if len(rows) < 3 or len(heads) < 2 or len(heads) != len(rows[0]) or len(rows) > 80:
            for child in node.xpath(".//td"):
                for part in child:
                    walk(part)
            return
        names = rows[0]
        for row in rows[1:]:
            if len(row) == len(names) and all(row) and sum(map(len, row)) < 500:
                add(Item("row", "", " | ".join(row), tuple(zip(names, row, strict=True))))

    body = tree.find(".//body")
    walk(tree if body is None else body)
    return document if len(document.items) > 1 else None


def text_document(path: Path, package: str, name: str) -> Document | None:
    """A plain text, or Markdown: what is asked in a paragraph of its own is a heading."""
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    document = Document(name, "text", package, "en")
    headings: tuple[str, ...] = ()
    for part in re.split(r"\n\s*\n", content.decode(errors="replace").replace("\r", "")):
        line = plain(part)
        mark = re.match(r"#{1,6}\s+(.{3,150}?)[\s#]*$", line)
        ruled = re.fullmatch(r"\s*(\S[^\n]{2,100})\n\s*([=\-~*^#])\2{3,}\s*", part)
        asked = re.match(
            r"(?:\[?[QF]?\d*[.:)\]]*[\d.]*[.:)]*\s*)?(?:\*\s*)?(?:Q(?:uestion)?\s*[:.]\s*)?(.{8,200}\?)$",
            line,
        )
        if found := mark or ruled or asked:
            headings = (name, plain(found[1]).strip("*_ "))
        elif headings and len(line) > 20:
            document.items.append(
                Item("paragraph", re.sub(r"^\s*A(?:nswer)?\s*[:.]\s*", "", line), headings=headings)
            )
    return document if document.items else None


def python_module(source: str, module: str, package: str) -> Document | None:
    """The public functions, methods and classes of a module that say what they do."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    document = Document(module, "code", package, "en")

    def visit(nodes: list[ast.stmt], owner: str) -> None:
        for node in nodes:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_"):
                continue
            docstring = ast.get_docstring(node)
            if isinstance(node, ast.ClassDef):
                if docstring and len(docstring) > 20:
                    bases = ", ".join(ast.unparse(base) for base in node.bases)
                    head = f"class {node.name}({bases}):" if bases else f"class {node.name}:"
                    document.items.append(Item("function", docstring, head, headings=(module,)))
                visit(node.body, node.name)
            elif docstring and len(docstring) > 20:
                given = ast.unparse(node.args)
                returned = f" -> {ast.unparse(node.returns)}" if node.returns else ""
                pairs = zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
                defaults = tuple((arg.arg, ast.unparse(value)) for arg, value in pairs)
                document.items.append(
                    Item(
                        "function",
                        docstring,
                        f"def {node.name}({given}){returned}:",
                        defaults=defaults,
                        headings=tuple(filter(None, (module, owner))),
                    )
                )

    visit(tree.body, "")
    return document if len(document.items) > 1 else None
