"""PDF: the text layer, page by page, read with pdfium (the engine of Chromium)."""

from __future__ import annotations

from dataclasses import replace

from ai_os_diffusion.ingestion.document import Block
from ai_os_diffusion.ingestion.readers.text import paragraphs
from ai_os_diffusion.utils.errors import IngestError

__all__ = ["read_pdf"]


def read_pdf(data: bytes) -> list[Block]:
    """Read the paragraphs of a PDF; each knows its page and its lines on that page.

    Args:
        data: the file's bytes.

    Raises:
        IngestError: pypdfium2 is not installed, or the file is damaged, locked by a password or
            without a text layer.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise IngestError("reading PDF needs pypdfium2: pip install 'ai-os-diffusion[docs]'") from error
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise IngestError(
            f"not a PDF that can be opened (damaged or locked by a password): {error}"
        ) from error
    with document:
        title = " ".join(str(document.get_metadata_dict().get("Title", "")).split())
        headings = (title,) if title else ()
        blocks = [
            replace(block, headings=headings, metadata={"page": index + 1})
            for index in range(len(document))
            for block in paragraphs(_page_text(document, index))
        ]
    if not blocks:
        raise IngestError(
            "the PDF has no text layer (scanned pages?); run an OCR tool over it first, for example ocrmypdf"
        )
    return blocks


def _page_text(document: object, index: int) -> str:
    import pypdfium2

    try:
        page = document[index]  # type: ignore[index]
        text = page.get_textpage().get_text_range()
    except pypdfium2.PdfiumError as error:
        raise IngestError(f"page {index + 1} of the PDF is damaged: {error}") from error
    # pdfium marks a hyphen that ends a line with U+0002, or with U+FFFE in older releases.
    text = str(text).replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\x02", "-").replace("\ufffe", "-").replace("\0", "")
