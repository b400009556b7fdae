import base64
import json
import random
import re

import pytest

from ai_os_diffusion.ingestion import read_document
from ai_os_diffusion.ingestion.readers import html, markdown
from ai_os_diffusion.ingestion.readers import text as text_reader
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
    assert blocks("a.md", "---\ntitle: 'T'\nx: 1\n---\nbody\n") == [
        ("title: 'T'\nx: 1", 2, 3, ("T",)),
        ("body", 5, 5, ("T",)),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "---\n\n# Roses\n\nCut in March.\n\n---\n\n# Boiler\n\nServiced.\n",
        "---\nCut in March.\n---\nServiced: never\n",
        "---\n- Cut\n- March\n---\nServiced\n",
        "---\nCut: March\n\nServiced\n",
        "---\nCut: [March\n---\nServiced\n",
    ],
)
def test_a_rule_at_the_top_swallows_nothing(text):
    kept = str(blocks("a.md", text))
    assert all(word in kept for word in ("Cut", "March", "Serviced"))


def test_front_matter_shares_no_passage_with_the_text():
    front, body = read_document("a.md", b"---\ntitle: T\n---\nbody").blocks
    assert front.metadata != body.metadata


def test_markdown_keeps_its_structure_however_many_lines_it_has():
    document = read_document("a.md", b"# A\n\n" + b"- one\n" * 300_000 + b"\n## B\n\ntext\n")
    assert document.remarks == ()
    assert document.blocks[-1][1:6] == (300_006, 300_006, "prose", ("A", "B"), {})
    assert sum(block.text.count("- one") for block in document.blocks) == 300_000
    assert {block.headings for block in document.blocks} == {("A",), ("A", "B")}


@pytest.mark.parametrize("size", [100, 300, 10_000])
def test_markdown_read_in_pieces_is_that_of_the_whole(size):
    number = iter(range(10_000))
    parts = (
        "# t@\n",
        "one@\n\n",
        "- a@\n  b@\n",
        "> c@\nd@\n\n",
        "```\ne@\n\nf@\n```\n",
        "|a@|\n|-|\n|b@|\n\n",
    )
    text = "".join(re.sub("@", lambda _: str(next(number)), part) for part in parts * 40)
    reader, whole, line = markdown.MarkdownReader("a.md"), markdown.MarkdownReader("a.md"), 1
    found = []
    for start in range(0, len(text), size):
        found += reader.read(text[start : start + size], line)
        line += text.count("\n", start, start + size)
    assert [*found, *reader.end()] == [*whole.read(text), *whole.end()]


def test_a_line_of_markdown_without_end_is_held_no_longer_than_a_piece(monkeypatch):
    monkeypatch.setattr(markdown, "_MAX_PIECE_CHARS", 100)
    reader = markdown.MarkdownReader("a.md")
    blocks = []
    for piece in ["words " * 30] * 20:
        blocks += reader.read(piece)
        assert len(reader._held) < 100
    blocks += reader.end()
    assert [word for block in blocks for word in block.text.split()] == ["words"] * 600
    assert {(block.line, block.end_line) for block in blocks} == {(1, 1)}


def test_a_block_of_markdown_too_long_to_be_held_is_cut_and_told(monkeypatch):
    monkeypatch.setattr(markdown, "_MAX_PIECE_CHARS", 100)
    document = read_document("a.md", b"# A\n\n" + b"some words\n" * 50 + b"\n> b\n")
    assert [remark.kind for remark in document.remarks] == ["limit"]
    assert sum(block.text.count("some words") for block in document.blocks) == 50
    assert [block.is_aligned for block in document.blocks] == [True] * len(document.blocks)
    assert document.blocks[-1][:3] == ("> b", 54, 54)


@pytest.mark.parametrize(
    "text",
    [
        "- " * 200_000 + "x\n" + "x\n" * 200_000,
        "[" * 500_000,
        "`" * 3 + "a`" * 200_000,
        "|a" * 3000 + "|\n" + "|-" * 3000,
    ],
)
def test_markdown_that_only_hostile_files_hold_is_read_in_time(text):
    """Each takes hours where its cost is quadratic."""
    assert read_document("a.md", text.encode()).blocks or "[[" in text


def test_a_footnote_of_one_word_is_no_target_of_a_link():
    assert ("[^1]: Hugo", 3, 3, ()) in blocks("a.md", "Serviced[^1].\n\n[^1]: Hugo\n[a]: http://b\n")


def test_a_markdown_heading_with_nothing_below_can_still_be_found():
    assert blocks("a.md", "# A\n## B\n## C\ntext\n") == [("## B", 2, 2, ("A",)), ("text", 4, 4, ("A", "C"))]


def test_markdown_headings_of_one_level_that_follow_each_other_are_found_one_by_one():
    long = "long " * 40
    found = blocks("a.md", f"# Top\n## A\n##\n## {long}\n## B\n##\n## C\n##\nx\n## D\ny\n## E\n## F\n")
    assert found == [
        ("## A", 2, 2, ("Top",)),
        (f"## {long}".rstrip(), 4, 4, ("Top",)),
        ("## B", 5, 5, ("Top",)),
        ("## C", 7, 7, ("Top",)),
        ("x", 9, 9, ("Top",)),
        ("y", 11, 11, ("Top", "D")),
        ("## E", 12, 12, ("Top",)),
        ("## F", 13, 13, ("Top",)),
    ]


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
        ("f", 9, 9, ("T", "Top")),
    ]


def remarks(name, data):
    return [(remark.kind, remark.lines) for remark in read_document(name, data).remarks]


def test_html_names_the_lines_of_what_is_hidden_and_of_menus():
    page = (
        b"<p>seen</p>\n<p hidden>a</p>\n<nav>b</nav>\n<div style='color:red; display: none'><p>c</div>\n"
        b"<template>d</template>\n<script>x<y</script><style>p{}</style><nav><script>z</script></nav>\n"
        b"<dialog>e</dialog><div role=navigation>\nf</div>\n<div hidden></div>"
    )
    assert [text for text, *_ in blocks("a.html", page.decode())] == ["seen"]
    assert remarks("a.html", page) == [("hidden", ((2, 2), (4, 5), (7, 7))), ("navigation", ((3, 3), (8, 8)))]


def test_html_shows_what_is_written_in_attributes():
    page = (
        "<img src=a.png alt='A rose'> <input type=submit value=Send> <input placeholder=Name>"
        "<input type=hidden value=secret><select><optgroup label=Colours><option>red</select>"
    )
    assert " ".join(" ".join(text.split()) for text, *_ in blocks("a.html", page)) == (
        "A rose Send Name Colours red"
    )


def test_html_is_parsed_as_browsers_do():
    page = "<p>one<table>out<tr><td>in</table><b><p>two</b> three<noscript> four</noscript><math> 5"
    assert [text for text, *_ in blocks("a.html", page)] == ["oneout", "in", "two three four 5"]


def test_the_title_of_a_page_is_kept_short_above_its_passages():
    title = "word " * 1000
    first, *rest = blocks("a.html", f"<title>{title}</title><p>one<p>two")
    assert first[0] == title.strip()
    assert all(len(headings[0]) <= 160 for _, _, _, headings in rest)


def test_a_page_that_is_only_a_title_can_be_found():
    assert blocks("a.html", "<title>Boiler serviced</title>") == [("Boiler serviced", 1, 1, ())]


@pytest.mark.parametrize(
    ("markup", "limit"),
    [
        ("<div>" * 5000 + "deep" + "</div>" * 5000, "512 deep"),
        ("".join(f"<p><b a={n}>x" for n in range(2000)) + "deep", "multiplies"),
        ("<a" + "".join(f" a{n}" for n in range(5000)) + ">deep", "1,024 attributes"),
        ("<a" + "".join(f"\n a{n}='>'" for n in range(5000)) + ">deep", "1,024 attributes"),
    ],
)
def test_html_beyond_its_bounds_keeps_its_text_and_names_the_bound(markup, limit):
    document = read_document("a.html", f"<p>before</p>{markup}<p>after</p>".encode())
    text = " ".join(block.text for block in document.blocks)
    assert [word in text for word in ("before", "deep", "after")] == [True] * 3
    assert [limit in remark.reason for remark in document.remarks] == [True]
    last = document.blocks[-1]
    assert last.end_line == markup.count("\n") + 1


def test_html_that_is_all_menu_is_read_after_all():
    assert [text for text, *_ in blocks("a.html", "<nav><p>only this</p></nav>")] == ["only this"]


@pytest.mark.parametrize(
    "page",
    [
        "<p>" + "some words\n" * 30_000,
        "<pre>" + "some words\n" * 30_000,
        "<p>" + "some words " * 50_000,
        "<p>" + "<b>some words</b> " * 20_000,
        "<p>" + "<img alt='some words'>" * 20_000,
        "<p>" + "so<i>me</i> wo<i>rds</i>\n" * 9_000,
        "<b><p>" * 1_000_000 + "<p>some words\n" * 9_000,
    ],
)
def test_very_much_text_of_a_page_is_several_blocks_that_know_their_lines(page):
    lines = page.split("\n")
    found = read_document("a.html", page.encode()).blocks
    assert len(found) > 1 or "img" in page or len(lines) == 1
    words = [word for block in found for word in block.text.split()]
    assert words == ["some", "words"] * page.count("me")
    for block in found:
        assert block.text.count("\n") in (0, block.end_line - block.line)
        assert block.end_line <= len(lines)
    assert [block.line for block in found] == sorted(block.line for block in found)


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


def test_a_title_of_plain_text_with_nothing_below_can_be_found():
    assert blocks("a.rst", "One\n===\n\nTwo\n===\n\n***\nEnd\n***\n") == [
        ("One\n===", 1, 2, ()),
        ("***\nEnd\n***", 7, 9, ("Two",)),
    ]


@pytest.mark.parametrize("name", ["a.txt", "a.c"])
def test_very_many_paragraphs_come_several_together_with_all_their_lines(name, monkeypatch):
    monkeypatch.setattr(text_reader, "_MAX_PARAGRAPHS", 2)
    monkeypatch.setattr(text_reader, "_CHARS_TOGETHER", 7)
    data = "\n\n".join(f"w{number}\n\n" for number in range(9)).encode()
    found = read_document(name, data).blocks
    assert [word for block in found for word in block.text.split()] == [f"w{number}" for number in range(9)]
    assert all(block.is_aligned for block in found)
    assert all(data.split(b"\n")[block.line - 1].decode() == block.text.split("\n")[0] for block in found)
    assert len(found) == 6


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


@pytest.mark.parametrize(
    ("record", "kept"),
    [
        ('{"text": "", "body": "Cut in March"}', "Cut in March"),
        ('{"title": "Cut in March", "text": " "}', "title: Cut in March"),
        ('{"title": "Roses", "text": null, "content": "Cut"}', "Cut"),
        (
            '{"text": "Cut", "when": "March", "by": {"name": ["Hugo"]}}',
            'Cut|when: March\nby: {"name": ["Hugo"]}',
        ),
        ('{"text": "Cut", "body": "March"}', "Cut|body: March"),
        ('{"text": "Cut", "text": "March"}', 'text: ["Cut", "March"]'),
        ('{"name": "Roses", "title": "Cut", "text": "March"}', "March|name: Roses"),
    ],
)
def test_jsonl_drops_no_record_and_no_field(record, kept):
    assert "|".join(text for text, *_ in blocks("a.jsonl", record)) == kept


def test_jsonl_leaves_out_rows_of_numbers_and_says_so():
    data = json.dumps({"text": "a", "embedding": [0.5] * 384}).encode()
    assert remarks("a.jsonl", data) == [("opaque", ((1, 1),))]


@pytest.mark.parametrize("depth", [50, *range(900, 1000, 7)])
def test_jsonl_of_any_depth_is_told_or_named(depth):
    data = ('{"a":' + "[" * depth + '"deep"' + "]" * depth + '}\n{"text": "ok"}').encode()
    document = read_document("a.jsonl", data)
    assert document.blocks[-1].text == "ok"
    assert "deep" in document.blocks[0].text or document.remarks[0].lines == ((1, 1),)


def test_jsonl_leaves_out_lines_that_are_not_json():
    document = read_document("a.jsonl", b'{"text": "a"}\nnonsense\n\n{"text": "b"}\n{"text"')
    assert [(block.text, block.line) for block in document.blocks] == [("a", 1), ("b", 4)]
    assert [remark.lines for remark in document.remarks] == [((2, 2), (5, 5))]


@pytest.mark.parametrize("value", ['"word{}"', "{}", '"two\\nlines{}"', '{{"text": "word{}"}}'])
@pytest.mark.parametrize("other", ["", "nonsense", '{"a": 1', "null", "\xa0"])
def test_jsonl_of_very_many_tiny_blocks_keeps_their_lines(value, other):
    count = 12_000
    written = [value.format(number) for number in range(count)]
    data = "".join(f"{line}\n{other}\n" for line in written).encode()
    document = read_document("a.jsonl", data)
    found = {}
    for block in document.blocks:
        for line, text in enumerate(block.text.split("\n"), block.line):
            if number := re.search(r"\d+", text):
                found[int(number.group())] = line if block.is_aligned else block.line
    assert found == {number: 1 + 2 * number for number in range(count)}
    damaged = [remark for remark in document.remarks if remark.kind == "damaged"]
    assert bool(damaged) == (other in ("nonsense", '{"a": 1'))
    if damaged:
        named = damaged[0].lines
        assert all(
            any(first <= line <= last for first, last in named) for line in range(2, 2 * count, 997 * 2)
        )


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
    with pytest.raises(IngestError, match="none of its pages shows anything"):
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


@pytest.mark.parametrize("name", ["note.md", "note.txt", "note"])
def test_a_note_that_speaks_of_a_format_is_a_note(name):
    for text in ("A PDF begins with %PDF-1.4 and a number.", "%PDF-1.4 is a mark. Cut 12 0 obj in March.\n"):
        document = read_document(name, text.encode())
        assert [block.text for block in document.blocks] == [text.strip()]
    assert read_document("note.txt", b"<html> begins a page").kind == "text"


NOISE = base64.b64encode(random.Random(1).randbytes(3000)).decode()
WRAPPED = "\n".join(NOISE[start : start + 76] for start in range(0, 3040, 76))


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.md", f"Roses\n\n![x](data:image/png;base64,{NOISE}) March", ((3, 3),)),
        ("a.txt", f"Roses\n{WRAPPED}\nMarch", ((2, 41),)),
        ("a.txt", "Roses data:image/svg+xml,%3Csvg%20a%3D'b March", ((1, 1),)),
        ("a.html", f"<p>Roses {NOISE}\n March", ((1, 1),)),
        ("a.jsonl", json.dumps({"text": "Roses", "file": NOISE, "by": "March"}), ((1, 1),)),
        ("a.json", json.dumps({"by": "Roses", "image/png": WRAPPED + "\n", "when": "March"}), ((1, 1),)),
        ("a.py", f"Roses = '{NOISE}'\nMarch = 1", ((1, 1),)),
        ("a.txt", f"Roses {'deadbeef0123' * 40} March", ((1, 1),)),
        ("a.txt", f"Roses {'a' * 5000} March", ((1, 1),)),
    ],
)
def test_data_written_as_letters_is_left_out_and_named(name, text, lines):
    document = read_document(name, text.encode())
    kept = "\n".join(block.text for block in document.blocks)
    assert "Roses" in kept
    assert "March" in kept
    assert len(kept) < 150
    assert [(remark.kind, remark.lines) for remark in document.remarks] == [("opaque", lines)]


@pytest.mark.parametrize(
    "text",
    [
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" * 2,
        "/usr/share/" + "/".join(["documentation", "kernel", "filesystems"] * 6),
        "the-longest-slug-of-a-page-" * 8,
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "data:, data:x and data, of course; metadata:a/b",
        "玫瑰在三月修剪" * 40,
        "=" * 200 + "-" * 300,
        "averyLongNameOfAFunctionThatDoesEverything" * 3,
    ],
)
def test_words_are_kept_however_long(text):
    document = read_document("a.txt", text.encode())
    assert [block.text for block in document.blocks] == [text]
    assert document.remarks == ()


def test_binary_bytes_are_refused_under_any_name():
    with pytest.raises(IngestError, match="binary"):
        read_document("notes.md", b"\0\1\2\3" * 10)


def test_very_many_tiny_paragraphs_of_a_page_come_together(monkeypatch):
    monkeypatch.setattr(html, "_MAX_BLOCKS", 50)
    page = "".join(f"<h2>t{n}</h2><p>a{n}<table><tr><td>b{n}</table></p>\n" for n in range(100))
    page += "".join(f"<p>c{n}</p>" for n in range(9000))
    blocks = read_document("a.html", page.encode()).blocks
    said = " ".join(" ".join((*block.headings, block.text)) for block in blocks).split()
    assert {f"{letter}{n}" for letter in "tab" for n in range(100)} <= set(said)
    assert {f"c{n}" for n in range(9000)} <= set(said)
    assert len(blocks) < 200


def test_of_a_drawing_the_words_are_taken():
    drawing = (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE svg PUBLIC "x" "y">\n'
        '<svg xmlns="http://www.w3.org/2000/svg"><title>Loss</title><desc>of a run</desc>'
        '<defs><style type="text/css">text { x: y }</style></defs>\n'
        '<g><path d="M 1 2"/><text x="1">steps &amp; <tspan>seconds</tspan></text></g></svg>'
    )
    document = read_document("a.svg", drawing.encode())
    said = " ".join(" ".join((*block.headings, block.text)) for block in document.blocks)
    assert " ".join(said.split()) == "Loss of a run steps & seconds"
