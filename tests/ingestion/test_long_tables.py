"""A table that is several passages: each says what the columns are."""

import pytest

from ai_os_diffusion.ingestion import Ingestor, context_line, read_document
from support.package_files import docx_of, odt_of

ROWS = [(f"part{n}", f"{n} mm", f"{n}.50") for n in range(60)]
HEADER = ("name", "size", "price")


def words(texts):
    return [len(text.split()) for text in texts]


def markdown(rows):
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def html(rows, cell="td"):
    return "".join(f"<tr>{''.join(f'<{cell}>{said}' for said in row)}</tr>\n" for row in rows)


def docx(rows, header=""):
    cells = ("".join(f"<w:tc><w:p><w:r><w:t>{said}</w:t></w:r></w:p></w:tc>" for said in row) for row in rows)
    return "".join(f"<w:tr>{header}{row}</w:tr>" for row in cells)


def odt(rows):
    cells = (
        "".join(f"<table:table-cell><text:p>{said}</text:p></table:table-cell>" for said in row)
        for row in rows
    )
    return "".join(f"<table:table-row>{row}</table:table-row>" for row in cells)


SMALL = "| a | b |\n|-|-|\n| c | d |\n"
MARKED = docx([HEADER], "<w:trPr><w:tblHeader/></w:trPr>") + docx(ROWS)
STYLED = f'<w:tblPr><w:tblLook w:val="04A0"/></w:tblPr>{docx([HEADER, *ROWS])}'
HEADED = f"<table:table-header-rows>{odt([HEADER])}</table:table-header-rows>{odt(ROWS)}"
TABLES = {
    "a.csv": "\n".join(map(",".join, [HEADER, *ROWS])).encode(),
    "a.md": f"# T\n\n{markdown([HEADER])}\n|---|---|---|\n{markdown(ROWS)}\n\n{SMALL}".encode(),
    "a.html": f"<table>{html([HEADER], 'th')}{html(ROWS)}</table><table><tr><td>c<td>d</table>".encode(),
    "marked.docx": docx_of(f"<w:tbl>{MARKED}</w:tbl>"),
    "styled.docx": docx_of(f"<w:tbl>{STYLED}</w:tbl><w:tbl>{docx([('c', 'd')])}</w:tbl>"),
    "a.odt": odt_of(f"<table:table>{HEADED}</table:table>"),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_passage_of_a_long_table_says_what_its_columns_are(name):
    chunks = list(Ingestor(words, max_tokens=60).open(name, TABLES[name]).chunks())
    rows = [chunk for chunk in chunks if "part" in chunk.text]
    assert len(rows) > 5
    for chunk in rows:
        assert all(title in f"{context_line(chunk.headings)}\n{chunk.text}" for title in HEADER)
        assert words([f"{context_line(chunk.headings)}\n{chunk.text}"])[0] <= 60
    said = "\n".join(chunk.text for chunk in chunks)
    assert said.count("name | size | price") == 1
    assert all(cell in said for row in ROWS for cell in row)
    for chunk in chunks:
        if "c | d" in chunk.text and "price" in " ".join(chunk.headings):
            assert "part59" in chunk.text


def test_a_table_that_is_one_passage_says_it_once():
    text = f"# T\n\nParts:\n\n{markdown([HEADER])}\n|---|---|---|\n{markdown(ROWS[:3])}\n"
    (chunk,) = Ingestor(words, max_tokens=60).open("a.md", text.encode()).chunks()
    assert chunk.headings == ("a", "T")
    assert chunk.text.count("price") == 1


def test_headers_without_end_are_bounded():
    header = "".join(f"<th>column{n}" for n in range(5000))
    page = f"<table><tr>{header}</tr>{html(ROWS)}</table>"
    chunks = list(Ingestor(words, max_tokens=60).open("a.html", page.encode()).chunks())
    assert all(len(title) <= 256 for chunk in chunks for title in chunk.headings)
    assert {f"column{n}" for n in range(5000)} <= {word for chunk in chunks for word in chunk.text.split()}


def test_tables_of_layout_have_no_header():
    page = f"<table>{html(ROWS)}</table>"
    assert not any(block.columns for block in read_document("a.html", page.encode()).blocks)
