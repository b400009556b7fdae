"""Documents that are zip archives of XML, written by hand."""

from __future__ import annotations

import io
import zipfile

CONTAINER = '<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'


def zip_of(files):
    """An archive; a name may come twice."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            method = zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED
            archive.writestr(name, content, method)
    return out.getvalue()


def epub_of(chapters, *, metadata="<dc:title>Roses</dc:title>", more=None, kind="application/xhtml+xml"):
    """A book of chapters, each the text of an XHTML file `OPS/cN.xhtml`."""
    items = "".join(
        f'<item id="i{number}" href="c{number}.xhtml" media-type="{kind}"/>'
        for number in range(1, len(chapters) + 1)
    )
    spine = "".join(f'<itemref idref="i{number}"/>' for number in range(1, len(chapters) + 1))
    book = (
        f'<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>{metadata}</metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    return zip_of(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": CONTAINER,
            "OPS/book.opf": book,
            **{f"OPS/c{number}.xhtml": chapter for number, chapter in enumerate(chapters, 1)},
            **(more or {}),
        }
    )
