"""Of a Word document what it shows is read, with the numbers of its paragraphs."""

import io
import zipfile

import pytest

from ai_os_diffusion.ingestion import read_document
from ai_os_diffusion.utils.errors import IngestError
from support.package_files import docx_of, zip_of


def p(text, properties=""):
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def styled(style, text):
    return p(text, f'<w:pStyle w:val="{style}"/>')


def read(body, **options):
    document = read_document("a.docx", docx_of(body, **options))
    return (
        [(block.text, block.line, block.headings) for block in document.blocks],
        [(remark.kind, remark.lines) for remark in document.remarks],
    )


def test_titles_become_context_and_paragraphs_keep_their_numbers():
    body = (
        styled("T", "Garden") + styled("H1", "Roses") + p("Cut.") + p("") + styled("H2", "Soil") + p("Loam.")
    )
    assert read(body) == (
        [("Cut.", 3, ("Garden", "Roses")), ("Loam.", 6, ("Garden", "Roses", "Soil"))],
        [],
    )


def test_a_level_given_to_a_paragraph_wins_over_its_style():
    body = p("Roses", '<w:outlineLvl w:val="0"/>') + p(
        "Cut.", '<w:pStyle w:val="H1"/><w:outlineLvl w:val="9"/>'
    )
    assert read(body)[0] == [("Cut.", 2, ("Roses",))]


def test_rows_are_read_across_and_items_marked():
    row = "<w:tr><w:tc>{}</w:tc><w:tc>{}</w:tc></w:tr>"
    nested = f"<w:tbl>{row.format(p('in'), p('side'))}</w:tbl>" + p("")
    table = f"<w:tbl>{row.format(p('Rose'), p('March'))}{row.format(p('one') + p('two'), nested)}</w:tbl>"
    item = p("dig", '<w:numPr><w:numId w:val="1"/></w:numPr>')
    assert read(table + item)[0] == [
        ("Rose | March", 1, ()),
        ("one two | in side", 3, ()),
        ("- dig", 8, ()),
    ]


def test_a_page_laid_out_as_a_table_is_paragraphs():
    cell = styled("H1", "Roses") + p("Cut.")
    assert read(f"<w:tbl><w:tr><w:tc>{cell}</w:tc></w:tr></w:tbl>")[0] == [("Cut.", 2, ("Roses",))]


def test_notes_and_comments_come_behind_their_paragraph_once():
    reference = '<w:r><w:footnoteReference w:id="2"/><w:t>Cut.</w:t><w:commentReference w:id="2"/></w:r>'
    notes = '<w:footnote w:type="separator" w:id="0">{}</w:footnote><w:footnote w:id="2">{}</w:footnote>'
    comments = '<w:comment w:id="2" w:author="Ada">{}</w:comment>'
    found, remarks = read(
        f"<w:p>{reference}</w:p><w:p>{reference}</w:p>",
        beside={"footnotes": notes.format(p("no"), p("In March.")), "comments": comments.format(p("Sure?"))},
    )
    assert found == [("Cut.", 1, ()), ("In March.", 1, ()), ("Ada: Sure?", 1, ()), ("Cut.", 2, ())]
    assert remarks == []


def test_headers_and_footers_are_read_once():
    beside = {"header1": p("Draft"), "header2": p("Draft"), "footer1": p("Seite 1")}
    document = read_document("a.docx", docx_of(p("Cut."), beside=beside))
    assert [(block.text, dict(block.metadata)) for block in document.blocks] == [
        ("Cut.", {}),
        ("Draft", {"part": "word/header1.xml"}),
        ("Seite 1", {"part": "word/footer1.xml"}),
    ]


def test_what_changes_delete_and_hidden_text_are_left_out_and_named():
    body = (
        "<w:p><w:ins><w:r><w:t>new </w:t></w:r></w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:moveTo><w:r><w:t>here</w:t></w:r></w:moveTo></w:p>"
        "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r>"
        '<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>shown</w:t></w:r></w:p>'
        "<w:p><w:pPr><w:rPr><w:vanish/><w:del/></w:rPr></w:pPr><w:r><w:t>mark</w:t></w:r></w:p>"
    ) + styled("V", "style")
    assert read(body) == (
        [("new here", 1, ()), ("shown", 2, ()), ("mark", 3, ())],
        [("hidden", ((1, 1),)), ("hidden", ((2, 2), (4, 4)))],
    )


def test_text_boxes_are_read_once_behind_their_paragraph():
    box = f"<w:txbxContent>{p('boxed')}</w:txbxContent>"
    body = (
        f"<w:p><w:r><mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
        "</mc:AlternateContent></w:r><w:r><w:t>around</w:t></w:r></w:p>"
    )
    assert read(body + p("next"))[0] == [("around", 1, ()), ("boxed", 1, ()), ("next", 2, ())]


def test_fields_links_breaks_and_pictures():
    body = (
        "<w:p><w:hyperlink><w:r><w:t>a link</w:t></w:r></w:hyperlink><w:r><w:br/></w:r>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:tab/><w:t>7</w:t></w:r>"
        '<w:r><w:drawing><w:docPr descr="A rose"/></w:drawing></w:r></w:p>'
        "<w:p><w:r><w:t>chart:</w:t><w:drawing><w:chart/></w:drawing></w:r></w:p>"
    )
    assert read(body) == ([("a link\n7 A rose", 1, ()), ("chart:", 2, ())], [("no_text", ((2, 2),))])


def test_a_part_that_is_damaged_costs_itself_alone():
    document = read_document("a.docx", docx_of(p("Cut."), beside={"footnotes": "<oops>"}))
    assert [block.text for block in document.blocks] == ["Cut."]
    assert "word/footnotes.xml within is damaged" in document.remarks[0].reason


def test_the_title_of_the_file_is_context_until_the_text_has_one():
    core = {"docProps/core.xml": "<c><title>File</title></c>"}
    assert read(p("Cut.") + styled("T", "Garden") + p("Dig."), more=core)[0] == [
        ("Cut.", 1, ("File",)),
        ("Dig.", 3, ("Garden",)),
    ]


def test_a_word_document_is_known_under_any_name_and_a_locked_one_named():
    assert read_document("a.bin", docx_of(p("Cut."))).kind == "docx"
    with pytest.raises(IngestError, match="with a password"):
        read_document("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (docx_of(""), "it holds no text"),
        (docx_of("<w:p>"), r"word/document\.xml within is damaged"),
        (zip_of({"a": "b"}), r"no file word/document\.xml"),
        (docx_of(p("x"))[:300], "not a DOCX, or damaged"),
        (docx_of("<w:p>" * 3000 + "</w:p>" * 3000), "nested more than 1,000"),
    ],
)
def test_what_cannot_be_read_is_named(data, said):
    with pytest.raises(IngestError, match=said):
        read_document("a.docx", data)


def test_styles_based_on_each_other_in_circles_end():
    styles = (
        '<w:style w:styleId="A"><w:basedOn w:val="B"/></w:style><w:style w:styleId="B"><w:basedOn w:val="A"/>'
    )
    document = read_document("a.docx", docx_of(styled("A", "Cut."), beside={"styles": styles + "</w:style>"}))
    assert [block.headings for block in document.blocks] == [()]


def test_what_a_list_of_a_form_offers_is_told():
    entries = '<w:listEntry w:val="red"/><w:listEntry w:val="blue"/>'
    field = f"<w:ffData><w:ddList>{entries}</w:ddList></w:ffData>"
    run = f'<w:r><w:fldChar w:fldCharType="begin">{field}</w:fldChar></w:r>'
    (block,) = read_document("a.docx", docx_of(f"<w:p><w:r><w:t>Colour:</w:t></w:r>{run}</w:p>")).blocks
    assert block.text == "Colour: red blue"


@pytest.mark.parametrize("rename", [str.upper, lambda name: name.replace("/", "\\"), lambda name: f"/{name}"])
def test_names_of_parts_as_some_programs_write_them(rename):
    with zipfile.ZipFile(io.BytesIO(docx_of(p("Cut."), beside={"header": p("Roses")}))) as archive:
        files = {rename(name): archive.read(name) for name in archive.namelist()}
    document = read_document("a.docx", zip_of(files))
    assert [block.text for block in document.blocks] == ["Cut.", "Roses"]
