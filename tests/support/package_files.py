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


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"
MAIN = f'<R><Relationship Type="{RELATED}officeDocument" Target="word/document.xml"/></R>'
STYLES = (
    f'<w:styles {W}><w:style w:styleId="T"><w:name w:val="Title"/></w:style>'
    '<w:style w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:styleId="H2"><w:name w:val="Teil"/><w:basedOn w:val="H1"/>'
    '<w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>'
    '<w:style w:styleId="V"><w:rPr><w:vanish/></w:rPr></w:style></w:styles>'
)


def docx_of(body, *, beside=None, more=None):
    """A Word document of the content of its `w:body`.

    Args:
        body: XML.
        beside: content of the parts with notes and headers: kind ("footnotes", "header") to XML.
        more: further files.
    """
    parts = {"styles": STYLES, **{kind: f"<w:x {W} {MC}>{xml}</w:x>" for kind, xml in (beside or {}).items()}}
    relations = "".join(
        f'<Relationship Id="r{number}" Type="{RELATED}{kind.rstrip("0123456789")}" Target="{kind}.xml"/>'
        for number, kind in enumerate(parts)
    )
    return zip_of(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": MAIN,
            "word/_rels/document.xml.rels": f"<Relationships>{relations}</Relationships>",
            "word/document.xml": f"<w:document {W} {MC}><w:body>{body}</w:body></w:document>",
            **{f"word/{kind}.xml": xml for kind, xml in parts.items()},
            **(more or {}),
        }
    )


ODF = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in (
        *(("office", "office"), ("text", "text"), ("style", "style"), ("table", "table")),
        *(("draw", "drawing"), ("svg", "svg-compatible"), ("form", "form")),
    )
)
HIDING = (
    '<style:style style:name="H"><style:text-properties text:display="none"/></style:style>'
    '<style:style style:name="H2" style:parent-style-name="H"/>'
    '<style:style style:name="P1" style:parent-style-name="Title"/>'
)


def odt_of(body, *, beside="", more=None):
    """An OpenDocument text of the content of its `office:text`.

    Args:
        body: XML.
        beside: headers and footers, as they stand in the styles.
        more: further files.
    """
    return zip_of(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f"<office:document-content {ODF}><office:automatic-styles>{HIDING}"
            f"</office:automatic-styles><office:body><office:text>{body}</office:text></office:body>"
            "</office:document-content>",
            "styles.xml": f"<office:document-styles {ODF}>{beside}</office:document-styles>",
            **(more or {}),
        }
    )
