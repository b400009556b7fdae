import json

import pytest

from ai_os_diffusion.ingestion import read_document
from ai_os_diffusion.utils.errors import IngestError


def blocks(name, text):
    return [
        (block.text, block.line, block.end_line, block.headings)
        for block in read_document(name, text.encode()).blocks
    ]


def test_markdown_headings_become_context_and_lines_stay():
    text = "# Top\nintro\nmore\n\n## Sub `x`\n- a\n- b\n\n```\ncode\n\nmore\n```\n# Next\nend\n"
    assert blocks("a.md", text) == [
        ("intro\nmore", 2, 3, ("Top",)),
        ("- a", 6, 6, ("Top", "Sub x")),
        ("- b", 7, 7, ("Top", "Sub x")),
        ("```\ncode\n\nmore\n```", 9, 13, ("Top", "Sub x")),
        ("end", 15, 15, ("Next",)),
    ]


def test_markdown_front_matter_gives_the_title_and_keeps_the_line_numbers():
    assert blocks("a.md", "---\ntitle: 'T'\nx: 1\n---\nbody\n") == [("body", 5, 5, ("T",))]


def test_a_markdown_heading_with_nothing_below_can_still_be_found():
    assert blocks("a.md", "# A\n## B\n## C\ntext\n") == [("## B", 2, 2, ("A",)), ("text", 4, 4, ("A", "C"))]


def test_a_heading_without_a_name_is_no_context():
    assert blocks("a.md", "#\n## \ntext\n") == [("text", 3, 3, ())]


def test_html_keeps_the_main_text_with_its_lines():
    page = (
        "<html><head><title>T</title><script>var x</script></head><body>\n<nav><a href='/'>Home</a></nav>\n"
        "<main><h1>Top</h1>\n<p>Say &lt;hi&gt;\nto <a href='u'>all</a>.\n<pre>a\n\n  b</pre>"
        "<table><tr><td>1<td>2</tr></table></main>\n<footer>f</footer></body></html>"
    )
    assert blocks("a.html", page) == [
        ("Say <hi>\nto all.", 4, 5, ("T", "Top")),
        ("a\n\n  b", 6, 8, ("T", "Top")),
        ("1 | 2", 8, 8, ("T", "Top")),
    ]


def test_html_that_is_all_menu_is_read_after_all():
    assert [text for text, *_ in blocks("a.html", "<nav><p>only this</p></nav>")] == ["only this"]


def test_html_ends_within_anything():
    page = "<main><h1>T</h1><p>one<p>two <b>x</b><pre>code</pre><!-- c --><a href='x'>"
    for end in range(len(page)):
        read_document("a.html", page[:end].encode())


def test_underlined_titles_of_plain_text_are_headings():
    text = "Top\n===\n\nintro\n\nSub\n---\nbody\n\nOther\n=====\nend"
    assert blocks("a.rst", text) == [
        ("intro", 4, 4, ("Top",)),
        ("body", 8, 8, ("Top", "Sub")),
        ("end", 12, 12, ("Other",)),
    ]


def test_python_is_cut_by_symbol_and_every_line_is_kept_once():
    text = (
        '"""Doc."""\nimport os\n\n# why\n@deco\ndef f():\n    """F."""\n    return 1\n\n\n'
        "class A(B):\n    x = 1\n\n    def m(self):\n        pass\n\n    y = 2\n\nz = 3\n"
    )
    found = blocks("m.py", text)
    assert [(line, end, headings) for _, line, end, headings in found] == [
        (1, 2, ("m.py",)),
        (4, 8, ("m.py", "f")),
        (11, 12, ("m.py", "A")),
        (14, 15, ("m.py", "A", "m")),
        (17, 17, ("m.py", "A")),
        (19, 19, ("m.py",)),
    ]
    kept = [line for block, *_ in found for line in block.split("\n") if line.strip()]
    assert kept == [line for line in text.split("\n") if line.strip()]


@pytest.mark.parametrize(
    "text", ["def f(:\n  pass\n", "print 'two'\n\nx = 1\n", "x = '\\d'\n", "\x0cdef f(): pass\n"]
)
def test_python_that_does_not_parse_is_still_read(text):
    assert blocks("m.py", text)


def test_other_code_is_cut_at_blank_lines_between_top_level_parts():
    text = "// a\nfn a() {\n  x;\n\n  y;\n}\n\nfn b() {\n\n}\n"
    assert [(line, end) for _, line, end, _ in blocks("m.rs", text)] == [(1, 6), (8, 10)]


def test_jsonl_takes_the_text_field_or_the_whole_record():
    text = '{"id": 7, "title": "T", "text": "body"}\n\n{"q": "why?", "n": 1}\n"just"\n'
    document = read_document("a.jsonl", text.encode())
    assert [(block.text, block.line, block.headings) for block in document.blocks] == [
        ("body", 1, ("T",)),
        ("q: why?\nn: 1", 3, ()),
        ("just", 4, ()),
    ]
    assert document.blocks[0].metadata == {"record": 1, "record_id": 7}


def test_jsonl_leaves_out_lines_that_are_not_json():
    document = read_document("a.jsonl", b'{"text": "a"}\nnonsense\n\n{"text": "b"}\n{"text"')
    assert [(block.text, block.line) for block in document.blocks] == [("a", 1), ("b", 4)]
    assert document.refused_lines == (2, 5)


def test_jsonl_without_any_json_is_refused():
    with pytest.raises(IngestError, match="line 2 is not JSON"):
        read_document("a.jsonl", b"\nnonsense\nmore\n")


def test_jsonl_with_half_a_surrogate_pair_stays_storable():
    (block,) = read_document("a.jsonl", b'{"text": "a \\ud800 b"}').blocks
    assert block.text.encode("utf-8")


def test_jsonl_nested_beyond_the_stack_is_refused():
    with pytest.raises(IngestError):
        read_document("a.jsonl", b"[" * 200_000)


def test_pdf_text_knows_its_page_under_any_name(pdf_of):
    pytest.importorskip("pypdfium2")
    document = read_document("report.bin", pdf_of("Rain fell on Monday"))
    assert document.kind == "pdf"
    assert [(block.text, block.metadata["page"]) for block in document.blocks] == [("Rain fell on Monday", 1)]


def test_damaged_and_empty_pdfs_are_refused_clearly(pdf_of):
    pytest.importorskip("pypdfium2")
    with pytest.raises(IngestError, match="damaged"):
        read_document("a.pdf", b"%PDF-1.4\nnothing here")
    with pytest.raises(IngestError, match="no text layer"):
        read_document("a.pdf", pdf_of(""))


def test_pdf_without_its_library_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pypdfium2", None)
    with pytest.raises(IngestError, match=r"pip install 'ai-os-diffusion\[docs\]'"):
        read_document("a.pdf", b"%PDF-1.4")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("README", b"plain", "text"),
        ("page", b"<!DOCTYPE html><p>x", "html"),
        ("tool", b"#!/usr/bin/env python3\nx = 1\n", "python"),
        ("fake.pdf", b"just text", "text"),
        ("Makefile", b"all:\n\techo\n", "code"),
        ("a.ndjson", json.dumps({"text": "x"}).encode(), "jsonl"),
    ],
)
def test_the_kind_is_told_from_name_and_content(name, data, kind):
    assert read_document(name, data).kind == kind


def test_binary_bytes_are_refused_under_any_name():
    with pytest.raises(IngestError, match="binary"):
        read_document("notes.md", b"\0\1\2\3" * 10)
