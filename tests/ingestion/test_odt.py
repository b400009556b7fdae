"""Of an OpenDocument text what it shows is read, with the numbers of its paragraphs."""

import pytest

from ai_os_diffusion.ingestion import read_document
from ai_os_diffusion.utils.errors import IngestError
from support.package_files import odt_of, zip_of


def read(body, **options):
    document = read_document("a.odt", odt_of(body, **options))
    return (
        [(block.text, block.line, block.headings) for block in document.blocks],
        [(remark.kind, remark.lines) for remark in document.remarks],
    )


def h(level, text):
    return f'<text:h text:outline-level="{level}">{text}</text:h>'


def p(text, style="Standard"):
    return f'<text:p text:style-name="{style}">{text}</text:p>'


def test_titles_become_context_and_paragraphs_keep_their_numbers():
    body = p("Garden", "P1") + h(1, "Roses") + p("Cut.\n  In <text:span>March</text:span>.") + h(2, "Soil")
    assert read(body) == (
        [("Cut. In March.", 3, ("Garden", "Roses")), ("Soil", 4, ("Garden", "Roses"))],
        [],
    )


def test_rows_are_read_across_and_items_marked():
    row = "<table:table-row><table:table-cell>{}</table:table-cell><table:table-cell>{}</table:table-cell>"
    row += "</table:table-row>"
    item = "<text:list><text:list-item>{}</text:list-item></text:list>"
    table = f"<table:table>{row.format(p('Rose'), p('March'))}</table:table>"
    body = table + item.format(p("dig") + p("deep") + item.format(p("wide")))
    assert read(body)[0] == [("Rose | March", 1, ()), ("- dig", 3, ()), ("deep", 4, ()), ("- wide", 5, ())]


def test_notes_comments_and_text_boxes_come_behind_their_paragraph():
    note = (
        "<text:note><text:note-citation>1</text:note-citation><text:note-body>{}</text:note-body></text:note>"
    )
    comment = f"<office:annotation><creator>Ada</creator><date>2020</date>{p('Sure?')}</office:annotation>"
    box = f"<draw:frame><draw:text-box>{p('boxed')}</draw:text-box><svg:desc>A rose</svg:desc></draw:frame>"
    assert read(p("Cut" + note.format(p("In March.")) + comment + box + ".") + p("next")) == (
        [
            ("Cut1 A rose .", 1, ()),
            *((said, 1, ()) for said in ("In March.", "Sure?", "boxed")),
            ("next", 2, ()),
        ],
        [],
    )


def test_headers_and_footers_are_read_once():
    beside = f"<style:header>{p('Draft')}</style:header><style:header-left>{p('Draft')}</style:header-left>"
    document = read_document("a.odt", odt_of(p("Cut."), beside=beside))
    assert [(block.text, dict(block.metadata)) for block in document.blocks] == [
        ("Cut.", {}),
        ("Draft", {"part": "styles.xml"}),
    ]


def test_what_changes_delete_and_hidden_text_are_left_out_and_named():
    body = (
        f"<text:tracked-changes><text:deletion>{p('old')}</text:deletion></text:tracked-changes>"
        + p("shown <text:span text:style-name='H2'>secret</text:span>")
        + p("secret", "H")
        + f'<text:section text:display="none">{p("secret")}</text:section>'
        + p("last <text:hidden-text>secret</text:hidden-text><text:s text:c='3'/>word<text:line-break/>line")
    )
    assert read(body) == (
        [("shown", 1, ()), ("last word\nline", 3, ())],
        [("hidden", ((1, 1),)), ("hidden", ((1, 3),))],
    )


def test_objects_are_named_and_templates_of_indexes_are_not_text():
    body = (
        p("Chart: <draw:object/>")
        + "<text:table-of-content><text:table-of-content-source>no</text:table-of-content-source>"
        + f"<text:index-body>{p('Roses 3')}</text:index-body></text:table-of-content>"
    )
    assert read(body) == ([("Chart:", 1, ()), ("Roses 3", 2, ())], [("no_text", ((1, 1),))])


def test_it_is_known_under_any_name():
    assert read_document("a.docx", odt_of(p("Cut."))).kind == "odt"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (odt_of(""), "it holds no text"),
        (odt_of("<text:p>"), r"content\.xml within is damaged"),
        (zip_of({"a": "b"}), r"no file content\.xml"),
        (odt_of("", more={"META-INF/manifest.xml": "<a><encryption-data/></a>"}), "locked by a password"),
    ],
)
def test_what_cannot_be_read_is_named(data, said):
    with pytest.raises(IngestError, match=said):
        read_document("a.odt", data)


def test_a_spreadsheet_of_the_same_family_is_none():
    sheet = zip_of({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": "<a/>"})
    with pytest.raises(IngestError, match=r"save each sheet as \.csv"):
        read_document("a.ods", sheet)


def test_controls_of_forms_are_told_where_they_stand():
    forms = (
        "<office:forms><form:form form:name='no'>"
        "<form:fixed-text form:id='c1' form:label='Your name'/>"
        "<form:text form:id='c2' form:current-value='Ada' form:value='no'><form:properties/></form:text>"
        "<form:listbox form:id='c3'><form:option form:label='red'/><form:option form:label='blue'/>"
        "</form:listbox>"
        "<form:textarea form:id='c4'><text:p>typed</text:p> <text:p>words</text:p></form:textarea>"
        "<form:password form:id='c5' form:value='no'/><form:hidden form:id='c6' form:value='no'/>"
        "<form:button form:id='c7' form:label='nobody shows it'/>"
        "</form:form></office:forms>"
    )
    controls = "".join(f"<draw:control draw:control='c{number}'/>" for number in range(1, 7))
    body = f"{forms}<draw:control draw:control='c4'/><text:p>Form: {controls}.</text:p>"
    blocks = read_document("a.odt", odt_of(body)).blocks
    assert [block.text for block in blocks] == ["typed words", "Form: Your name Ada red blue ."]
