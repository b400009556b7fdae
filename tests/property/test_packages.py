"""Reading documents that hold others loses nothing, as `test_reading.py` asks of all formats.

A place is a part within the document and a line in it: a remark names both.
"""

import os
import re
from email.message import EmailMessage

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_os_diffusion.ingestion import Chunker, read_document
from ai_os_diffusion.ingestion.fitting import fit
from ai_os_diffusion.utils.errors import IngestError
from support.package_files import docx_of, epub_of, odt_of

EXAMPLES = int(os.environ.get("AIOS_DOCUMENTS", "400"))
WORD = re.compile(r"q\d+q")
# Passages of a few words, so that documents are several.
CHUNKER = Chunker(lambda texts: [len(text.split()) for text in texts], max_tokens=8)
reading = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def texts(*templates, size=20, most=1):
    """Texts of pieces; each `@` becomes a word that is shown, each `~` one that is not."""
    pieces = st.lists(st.sampled_from(templates), min_size=1, max_size=size).map("".join)
    return st.lists(pieces, min_size=1, max_size=most).map(numbered)


def numbered(contents):
    count = iter(range(1_000_000))
    return [
        re.sub("[@~]", lambda mark: f"{'q' if mark[0] == '@' else 'z'}{next(count)}q", content)
        for content in contents
    ]


def read_whole(name, data):
    """The document, or None for one that is refused, and so named, because all of it is hidden or empty."""
    try:
        return read_document(name, data)
    except IngestError as error:
        if "nothing can be read" in str(error):
            return None
        raise


def assert_all_kept(name, data, shown):
    """Every (word, part, line) of `shown` is kept, or a remark names its line, or its whole part."""
    document = read_whole(name, data)
    if document is None:
        return
    remarks = [(remark.reason, remark.lines) for remark in document.remarks if remark.kind != "replaced"]
    kept = set()
    for chunk in CHUNKER.chunk(fit(document)):
        assert chunk.line <= chunk.end_line
        said = "\n".join([chunk.text, *chunk.headings])
        assert not re.search(r"z\d+q", said)
        kept |= set(WORD.findall(said))
    lost = [
        (word, part, line)
        for word, part, line in shown
        if word not in kept
        and not any(
            part in reason and (not lines or any(first <= line <= last for first, last in lines))
            for reason, lines in remarks
        )
    ]
    assert not lost, document


CHAPTERS = texts(
    *("@ ", "\n", "<p>@</p>", "<p/>@", "<p>@\n@</p>\n", "<![CDATA[@ < ]]>", "<!-- ~ -->", "<h1>@</h1>"),
    *(
        "<title>@</title>",
        "<title/>",
        "<div hidden='hidden'>@</div>",
        "<br/>@",
        "<script src='x'/>@",
        "<h2/>",
    ),
    *("<table><tr><td>@</td><td/><td>@</td></tr></table>\n", "<a id='b'/>@", "<img alt='@'/>", "<i>@</i>"),
    *("<nav>@</nav>", "<textarea/>@", "<svg><text>@</text><path d='x'/></svg>", "<style>~</style>", "&#64; "),
    "<table><thead><tr><th>@</th><th>@</th></tr></thead><tr><th>@</th><td>@</td></tr><tr><td>@</td></tr></table>",
    *("<ul><li>@</li><li/></ul>", "<template/>@", "<p title='>'/>@", "<h3>@<br/>@</h3>", "<iframe/>@"),
    most=4,
)


@reading
@given(CHAPTERS, st.sampled_from(("<dc:title>@</dc:title>", "", "<dc:title/><dc:creator>@</dc:creator>")))
def test_epub_loses_no_word(chapters, metadata):
    pages = [f"<html><body>{chapter}</body></html>" for chapter in chapters]
    shown = [
        (word, f"OPS/c{number}.xhtml", line)
        for number, page in enumerate(pages, 1)
        for line, text in enumerate(page.split("\n"), 1)
        for word in WORD.findall(text)
    ]
    metadata = metadata.replace("@", "q999999q")
    if metadata:
        shown += [(word, "OPS/book.opf", 1) for word in WORD.findall(metadata)] if shown else []
    assert_all_kept("a.epub", epub_of(pages, metadata=metadata), shown)


RUN = "<w:r><w:t>@ </w:t></w:r>"
PARAGRAPH = f"<w:p>{RUN}</w:p>"
CELL = f"<w:tc>{PARAGRAPH}</w:tc>"
ROW = f"<w:tr>{CELL}{CELL}</w:tr>"
NOTE = '<w:p><w:r><w:t>@</w:t><w:footnoteReference w:id="1"/></w:r></w:p>'
BODY = texts(
    *(PARAGRAPH, "<w:p/>", f"<w:p>{RUN}<w:r><w:br/><w:t>@</w:t><w:tab/><w:t>@</w:t></w:r></w:p>", NOTE),
    *(f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr>{RUN}</w:p>' for style in ("T", "H1", "H2", "V", "X")),
    f'<w:p><w:pPr><w:outlineLvl w:val="3"/><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>{RUN}</w:p>',
    f"<w:tbl><w:tr>{CELL}{CELL}<w:tc><w:p/></w:tc></w:tr><w:tr>{CELL}</w:tr><w:tr/></w:tbl>",
    f"<w:tbl><w:tr>{CELL}<w:tc>{NOTE}</w:tc></w:tr></w:tbl>",
    f'<w:tbl><w:tblPr><w:tblLook w:val="04A0"/></w:tblPr>{ROW}{ROW}</w:tbl>',
    f"<w:tbl><w:tr><w:trPr><w:tblHeader/></w:trPr>{CELL}</w:tr><w:tr>{CELL}{CELL}</w:tr></w:tbl>",
    '<w:p><w:r><w:fldChar><w:ffData><w:listEntry w:val="@"/></w:ffData></w:fldChar></w:r></w:p>',
    f"<w:tbl><w:tr>{CELL}<w:tc><w:tbl><w:tr>{CELL}{CELL}</w:tr></w:tbl><w:p/></w:tc></w:tr></w:tbl>",
    f"<w:p>{RUN}<w:del><w:r><w:delText>~</w:delText></w:r></w:del><w:ins>{RUN}</w:ins></w:p>",
    "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>~</w:t></w:r></w:p><w:p><w:r><w:instrText>~</w:instrText></w:r></w:p>",
    f"<w:p><w:r><w:pict><w:txbxContent>{PARAGRAPH}<w:tbl><w:tr>{CELL}</w:tr></w:tbl></w:txbxContent></w:pict></w:r></w:p>",
    f"<w:sdt><w:sdtContent>{PARAGRAPH}</w:sdtContent></w:sdt><w:p><w:fldSimple>{RUN}</w:fldSimple></w:p>",
    f"<w:p><mc:AlternateContent><mc:Choice>{RUN}</mc:Choice><mc:Fallback><w:r><w:t>~</w:t></w:r></mc:Fallback>"
    "</mc:AlternateContent></w:p>",
)


@reading
@given(BODY, texts(PARAGRAPH, "<w:p/>", most=1))
def test_docx_loses_no_word(bodies, notes):
    body = bodies[0].replace('w:val="V"/></w:pPr><w:r><w:t>q', 'w:val="V"/></w:pPr><w:r><w:t>z')
    note = notes[0].replace("q ", "8q ")
    beside = {"footnotes": f'<w:footnote w:id="1">{note}</w:footnote>', "header1": note.replace("8q ", "9q ")}
    said = body + beside["header1"] + (note if "footnoteReference" in body else "")
    assert_all_kept("a.docx", docx_of(body, beside=beside), [(word, "-", 1) for word in WORD.findall(said)])


ODT_P = "<text:p>@ </text:p>"
ODT_NOTE = f"<text:p>@<text:note><text:note-body>{ODT_P}</text:note-body></text:note></text:p>"
ODT_CELL = f"<table:table-cell>{ODT_P}</table:table-cell>"
ODT_ROW = f"<table:table-row>{ODT_CELL}<table:table-cell>{ODT_NOTE}</table:table-cell></table:table-row>"
ODT_BODY = texts(
    *(ODT_P, "<text:p/>", ODT_NOTE, "<text:p>@<text:line-break/>@<text:tab/>@<text:s text:c='x'/>@</text:p>"),
    *(f'<text:h text:outline-level="{level}">@</text:h>' for level in ("1", "2", "x", "0")),
    *(f'<text:p text:style-name="{style}">@</text:p>' for style in ("P1", "Title", "none")),
    *(
        '<text:p text:style-name="H2">~</text:p>',
        '<text:p>@ <text:span text:style-name="H">~</text:span>@</text:p>',
    ),
    f"<text:list><text:list-header>{ODT_P}</text:list-header><text:list-item>{ODT_P}<text:list><text:list-item>"
    f"{ODT_P}</text:list-item></text:list></text:list-item><text:list-item/></text:list>",
    f"<table:table>{ODT_ROW}<table:table-row>{ODT_CELL}</table:table-row><table:table-row/></table:table>",
    f"<table:table><table:table-header-rows>{ODT_ROW}{ODT_ROW}</table:table-header-rows>{ODT_ROW}</table:table>",
    "<office:forms><form:text form:id='c' form:label='@'/><form:hidden form:id='c' form:value='~'/>"
    "</office:forms><text:p><draw:control draw:control='c'/></text:p>",
    f"<table:table><table:table-row>{ODT_CELL}<table:table-cell><table:table>{ODT_ROW}</table:table>"
    "</table:table-cell></table:table-row></table:table>",
    f"<text:tracked-changes><text:p>~</text:p></text:tracked-changes><text:section>{ODT_P}</text:section>",
    f"<text:p>@<draw:frame><draw:text-box>{ODT_P}<table:table>{ODT_ROW}</table:table></draw:text-box>"
    "<svg:desc>@</svg:desc></draw:frame>@</text:p>",
    f"<draw:frame><draw:text-box>{ODT_P}</draw:text-box></draw:frame>",
    "<text:section text:display='none'><text:p>~</text:p><table:table-row/></text:section>",
)


@reading
@given(ODT_BODY)
def test_odt_loses_no_word(bodies):
    beside = "<style:header><text:p>q999999q</text:p></style:header>"
    shown = [(word, "-", 1) for word in WORD.findall(bodies[0] + beside)]
    assert_all_kept("a.odt", odt_of(bodies[0], beside=beside), shown)


MAIL_TEXT = texts(
    *(
        "@ ",
        "@\n",
        "\n\n",
        "> @\n",
        "-- \n@\n",
        "@=\n",
        "From @\n",
        "é@ ",
        "=@\n",
        "=C3=A9@ ",
        "A" * 90 + " ",
    ),
    size=12,
    most=4,
)
PAGE_TEXT = texts("<p>@</p>", "@ ", "<!-- ~ -->", "<h1>@</h1>\n", "<br/>é@", "<p hidden>~</p>\n@", most=4)
ENCODINGS = st.sampled_from(("base64", "quoted-printable", "8bit"))
MAIL_KINDS = st.lists(st.sampled_from(("text", "page", "both", "file", "message")), min_size=4, max_size=4)


@reading
@given(MAIL_TEXT, PAGE_TEXT, MAIL_KINDS, ENCODINGS, st.booleans())
def test_mail_loses_no_word(bodies, pages, kinds, encoding, is_mbox):
    message, said = EmailMessage(), ["q999999q"]
    message["Subject"], message["From"] = "q999999q é", "Ada"
    message.make_mixed()
    for number, (body, kind) in enumerate(zip(bodies, kinds, strict=False)):
        part, page = EmailMessage(), re.sub(r"q(\d+)q", r"q77777\1q", pages[number % len(pages)])
        if kind == "file":
            message.add_attachment(body.encode(), maintype="application", subtype="x", filename="a.txt")
        elif kind == "page":
            part.set_content(page, subtype="html", cte=encoding)
            message.attach(part)
            body = page
        else:
            part.set_content(body, cte=encoding)
            if kind == "both" and body.strip():
                part.add_alternative("<p>z1q</p>", subtype="html")
            elif kind == "message":
                part["Subject"] = f"q888{number}q"
                said.append(part["Subject"])
                inner, part = part, EmailMessage()
                part.set_content(inner)
            message.attach(part)
        said += WORD.findall(body)
    data = bytes(message)
    if is_mbox:
        data = b"From a Mon May  1 10:00:00 2023\n" + data
    assert_all_kept("a.mbox" if is_mbox else "a.eml", data, [(word, "-", 1) for word in said])
