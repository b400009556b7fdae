"""ODT (OpenDocument, ISO/IEC 26300): what a word processor shows of a text, with its headings and notes."""

from __future__ import annotations

from ai_os_diffusion.ingestion.document import Block, Remark
from ai_os_diffusion.ingestion.readers.packages.flow import Flow
from ai_os_diffusion.ingestion.readers.packages.odt_text import OdtStyles, OdtText
from ai_os_diffusion.ingestion.readers.packages.package import Package
from ai_os_diffusion.ingestion.readers.packages.parts import of_part
from ai_os_diffusion.ingestion.readers.packages.xml_parts import parse_xml
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["read_odt"]

_WHAT = "an ODT"
_CONTENT, _STYLES, _PROPERTIES = "content.xml", "styles.xml", "meta.xml"
_MANIFEST = "META-INF/manifest.xml"


def read_odt(data: bytes) -> tuple[list[Block], list[Remark]]:
    """Read the text of an OpenDocument text, then each of its headers and footers once.

    A block's line is the number of its paragraph. Notes and comments come behind the paragraph that refers to
    them. What tracked changes delete, and hidden text, are left out and named.

    Args:
        data: the file's bytes.

    Raises:
        IngestError: it is no ODT, damaged, locked by a password, or nothing can be read of it.
    """
    package = Package(data, _WHAT)
    if _MANIFEST in package and package.tree(_MANIFEST).first("encryption-data"):
        raise IngestError("locked by a password; save it without one")
    title = package.title(_PROPERTIES)
    styles = OdtStyles()
    beside, about = _beside_pages(package, styles)
    text = OdtText(Flow(title), styles)
    parse_xml(package.read(_CONTENT), text, _CONTENT)
    blocks, remarks = text.flow.end()
    blocks += beside
    remarks += about
    if not blocks:
        why = "; ".join(map(str, remarks[:4])) or "it holds no text"
        raise IngestError(f"nothing can be read of the ODT: {why}")
    return blocks, remarks


def _beside_pages(package: Package, styles: OdtStyles) -> tuple[list[Block], list[Remark]]:
    """Headers and footers, which stand among the styles; the styles are noted."""
    if _STYLES not in package:
        return [], []
    text = OdtText(Flow(), styles)
    try:
        parse_xml(package.read(_STYLES), text, _STYLES)
    except IngestError as error:
        return [], [Remark("damaged", str(error))]
    found, remarks = of_part(_STYLES, *text.flow.end())
    # Pages on the left, and the first ones, mostly say the same.
    blocks = list({block.text: block for block in reversed(found)}.values())[::-1]
    return blocks, remarks
