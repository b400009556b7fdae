"""Package: a document that is a zip archive of XML files, made by nobody knows whom."""

from __future__ import annotations

import io
import posixpath
import zipfile
from urllib.parse import unquote

from ai_os_diffusion.ingestion.readers.packages.xml_parts import Element, parse_tree
from ai_os_diffusion.utils.errors import IngestError
from ai_os_diffusion.utils.files.bounded_zip import ARCHIVE_FAULTS

__all__ = ["Package"]

# An entry of the list of files takes some 600 bytes of memory once it is read.
_MAX_FILES = 50_000
_ENTRY_MAGIC = b"PK\1\2"
# Parsed, text takes up to twelve times its size. Real documents are packed five to twenty times.
_MAX_UNPACKED_BYTES = 32_000_000
_SPARE_BYTES = 1_000_000
_MAX_RATIO = 100
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_IS_LOCKED = 0x1


class Package:
    """The files within a document; those that are asked for are unpacked, within bounds, and no others.

    Nothing is written to the disk: a name that leads elsewhere is one that nobody asks for.
    """

    def __init__(self, data: bytes, what: str) -> None:
        """Read the list of files.

        Args:
            data: the archive.
            what: what the document should be, for messages.

        Raises:
            IngestError: it is no archive, or one that would fill the memory.
        """
        self._what = what
        self._bytes_left = min(_MAX_UNPACKED_BYTES, _SPARE_BYTES + _MAX_RATIO * len(data))
        # Counted before they are read; whatever the archive says of their number.
        if data.count(_ENTRY_MAGIC) > _MAX_FILES:
            raise IngestError(f"not {what}: it has more than {_MAX_FILES} files within")
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except ARCHIVE_FAULTS as error:
            raise IngestError(f"not {what}, or damaged: {error}") from error
        # Some formats compare names of parts without case, and some programs write them as Windows does.
        self._others = {_plain(name): info for name, info in self._archive.NameToInfo.items()}

    def __contains__(self, name: str) -> bool:
        return self._found(name) is not None

    def _found(self, name: str) -> zipfile.ZipInfo | None:
        return self._archive.NameToInfo.get(name) or self._others.get(_plain(name))

    def read(self, name: str) -> bytes:
        """Unpack a file.

        Args:
            name: of the file, as the archive has it.

        Raises:
            IngestError: there is none, it is damaged or locked, or more than a document may have.
        """
        info = self._found(name)
        if info is None:
            raise IngestError(f"not {self._what}: it has no file {_shown(name)} within")
        if info.flag_bits & _IS_LOCKED:
            raise IngestError(f"{_shown(name)} within is locked by a password; save the document without one")
        if info.compress_type not in _METHODS:
            raise IngestError(
                f"{_shown(name)} within is packed by method {info.compress_type}, not one of {self._what}"
            )
        try:
            with self._archive.open(info) as file:
                content = file.read(self._bytes_left + 1)
        except ARCHIVE_FAULTS as error:
            raise IngestError(f"{_shown(name)} within is damaged: {error}") from error
        if len(content) > self._bytes_left:
            raise IngestError(
                f"unpacked, its text is larger than {_MAX_UNPACKED_BYTES / 1e6:.0f} MB or {_MAX_RATIO} times "
                "the file, the most that is read; split the document"
            )
        self._bytes_left -= len(content)
        return content

    def tree(self, name: str) -> Element:
        """Unpack and parse a small file that says how the document is made.

        Args:
            name: of the file.

        Raises:
            IngestError: as `read`, or it is not XML.
        """
        return parse_tree(self.read(name), _shown(name))

    def title(self, properties: str) -> str:
        """The document's title on one line; "" where it has none.

        Args:
            properties: name of the file that holds it, which may be missing.

        Raises:
            IngestError: as `tree`.
        """
        said = self.tree(properties).first("title") if properties in self else None
        return " ".join(said.text.split()) if said else ""

    @staticmethod
    def resolve(base: str, target: str) -> str:
        """The name of the file that a file refers to; one outside of the package is in no archive.

        Args:
            base: name of the file with the reference.
            target: as it is written there: relative to `base`, or from the root of the package.
        """
        path = unquote(target.split("#", 1)[0])
        folder = "" if path.startswith("/") else posixpath.dirname(base)
        return posixpath.normpath(posixpath.join(folder, path.lstrip("/")))


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("/").casefold()


def _shown(name: str) -> str:
    return name if len(name) <= 80 else f"{name[:79]}…"
