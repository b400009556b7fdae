"""PDF files written by hand, of whole objects or of pages."""

from __future__ import annotations

import zlib

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
SELF_DRAWING = b"/X Do /X Do"


def pdf_of_objects(objects, trailer=b""):
    """Objects 1, 2, ... of which the first is the catalogue."""
    body, offsets = b"%PDF-1.5\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    return (
        body
        + b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
        + b"trailer << /Root 1 0 R /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n" % (size, trailer, len(body))
    )


def stream(content, entries=b""):
    return b"<< %s /Length %d >>\nstream\n%s\nendstream" % (entries, len(content), content)


def packed(content):
    return stream(zlib.compress(content), b"/Filter /FlateDecode")


def lines_of(lines):
    """The content of a page that shows lines of text."""
    shown = []
    for number, line in enumerate(lines):
        escaped = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        shown.append(f"BT /F1 12 Tf 20 {780 - 14 * number} Td ({escaped}) Tj ET".encode("cp1252"))
    return b"\n".join(shown)


def pdf_of_pages(contents, *, resources=b"", annotations=(), more=(), trailer=b"", catalogue=b"", pack=False):
    """Pages of these content streams; `annotations` go to the first, `more` are objects from number 4 on."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalogue, b"", FONT, *more]
    kids = []
    for number, content in enumerate(contents):
        objects.append((packed if pack else stream)(content))
        extra = b"/Annots [%s]" % b" ".join(annotations) if annotations and number == 0 else b""
        kids.append(len(objects) + 1)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents %d 0 R %s"
            b" /Resources << /Font << /F1 3 0 R >> %s >> >>" % (len(objects), extra, resources)
        )
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (listed, len(kids))
    return pdf_of_objects(objects, trailer)


def self_containing_pdf(*others):
    """A page that draws a form which draws itself twice, between pages of text."""
    form = stream(
        SELF_DRAWING,
        b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 4 0 R >> >>",
    )
    texts = [lines_of([text]) for text in others]
    contents = [*texts[:1], SELF_DRAWING, *texts[1:]]
    return pdf_of_pages(contents, resources=b"/XObject << /X 4 0 R >>", more=[form])
