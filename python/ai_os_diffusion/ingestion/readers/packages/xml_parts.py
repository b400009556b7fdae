"""XML that somebody else wrote, parsed by expat: no entities of its own, nothing fetched, bounded depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from xml.parsers import expat

from ai_os_diffusion.utils.errors import IngestError

__all__ = ["Element", "XmlHandler", "parse_tree", "parse_xml"]

_MAX_DEPTH = 1_000
# Of a file that is kept as a tree, which takes some 300 bytes for each.
_MAX_ELEMENTS = 200_000
# Text that comes in one piece where nothing stands within it.
_BUFFER_CHARS = 1 << 16


class XmlHandler(Protocol):
    """Takes what a parser finds, in its order. Names come without their namespaces."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        ...

    def end(self, name: str) -> None:
        """The element that began last, of those that have not ended, ends."""
        ...

    def text(self, text: str) -> None:
        """Text, or a piece of one."""
        ...


@dataclass(slots=True)
class Element:
    """An element of a small file.

    Attributes:
        name: without its namespace.
        attributes: names without their namespaces, and values.
        children: elements within.
        pieces: of the text directly within.
    """

    name: str
    attributes: Mapping[str, str]
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text directly within."""
        return "".join(self.pieces)

    def every(self, name: str) -> Iterator[Element]:
        """All elements of a name below this one, in their order."""
        left = self.children[::-1]
        while left:
            element = left.pop()
            if element.name == name:
                yield element
            left += reversed(element.children)

    def first(self, name: str) -> Element | None:
        """The first element of a name below this one."""
        return next(self.every(name), None)


def parse_xml(data: bytes, handler: XmlHandler, what: str) -> None:
    """Parse a file; its cost is linear in the file.

    Elements and not entities are what a document is made of: one that declares an entity, the means of
    every attack by XML (expansion without end, other files), is refused.

    Args:
        data: the file.
        handler: takes what is found.
        what: the name of the file, for messages.

    Raises:
        IngestError: it is not well-formed, declares entities or is nested too deeply.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.buffer_size = _BUFFER_CHARS
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise IngestError(f"{what} within has elements nested more than {_MAX_DEPTH:,} deep")
        handler.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(_local(name))

    def refuse(*_: object) -> None:
        raise IngestError(f"{what} within declares entities, which no document of its kind does")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = handler.text
    parser.EntityDeclHandler = refuse
    try:
        # In one piece: expat looks at a long token anew with every piece.
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise IngestError(f"{what} within is damaged: {error}") from error


def parse_tree(data: bytes, what: str) -> Element:
    """Parse a small file as a whole.

    Args:
        data: the file.
        what: its name, for messages.

    Raises:
        IngestError: as `parse_xml`, or it is not small.
    """
    builder = _Builder(what)
    parse_xml(data, builder, what)
    return builder.root


class _Builder:
    def __init__(self, what: str) -> None:
        self._what = what
        self._elements = 0
        self.root = Element("", {})
        self._open = [self.root]

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._elements += 1
        if self._elements > _MAX_ELEMENTS:
            raise IngestError(f"{self._what} within has more than {_MAX_ELEMENTS:,} elements")
        element = Element(name, attributes)
        self._open[-1].children.append(element)
        self._open.append(element)

    def end(self, name: str) -> None:
        del name
        self._open.pop()

    def text(self, text: str) -> None:
        self._open[-1].pieces.append(text)


def _local(name: str) -> str:
    return name[name.rfind(" ") + 1 :]
