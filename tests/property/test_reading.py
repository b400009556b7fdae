"""Reading loses nothing: every word that is shown is in a block or heading, or a remark names its place."""

import json
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ai_os_diffusion._native import json_lines
from ai_os_diffusion.ingestion import Chunker, Document, Remark, read_document
from ai_os_diffusion.ingestion.fitting import fit
from ai_os_diffusion.utils.errors import IngestError
from support.pdf_files import lines_of, pdf_of_pages

EXAMPLES = int(os.environ.get("AIOS_DOCUMENTS", "400"))
WORD = re.compile(r"q\d+q")
LONG = "word " * 60
# Passages of a few words, so that documents are several.
CHUNKER = Chunker(lambda texts: [len(text.split()) for text in texts], max_tokens=8)


def of(*templates, size=25):
    """Documents of pieces; each `@` in a piece becomes a word that is shown, each `!` one that is not."""
    return st.lists(st.sampled_from(templates), min_size=1, max_size=size).map(filled)


def filled(pieces):
    count = iter(range(1_000_000))
    return re.sub("[@!]", lambda mark: f"{'q' if mark[0] == '@' else 'z'}{next(count)}q", "".join(pieces))


def assert_all_kept(name, data, shown):
    """Every (word, line or page) of `shown` is kept or named."""
    document = read_whole(name, data)
    kept = set()
    for chunk in CHUNKER.chunk(fit(document)):
        assert chunk.line <= chunk.end_line
        kept |= set(WORD.findall("\n".join([chunk.text, *chunk.headings])))
    named = [
        span
        for remark in document.remarks
        if remark.kind != "replaced"
        for span in (*remark.lines, *remark.pages)
    ]
    lost = [
        (word, place)
        for word, place in shown
        if word not in kept and not any(first <= place <= last for first, last in named)
    ]
    assert not lost, document


def read_whole(name, data):
    """The document; one that is refused whole counts as named, with all its lines and pages."""
    try:
        return read_document(name, data)
    except IngestError as error:
        everything = ((1, 1 + data.count(b"\n")),)
        return Document(name, "", (), remarks=(Remark("damaged", str(error), everything, everything),))


def lines(text):
    return [(word, number) for number, line in enumerate(text.split("\n"), 1) for word in WORD.findall(line)]


reading = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

TEXT = of(
    *(
        "@ ",
        "@\n",
        "\n",
        "\n\n",
        "@\n======\n",
        "@\n---\n",
        "\n***\n@\n***\n",
        "\n---\n",
        "=====\n",
        "  @\n",
        "- @\n",
    ),
    *(
        f"\n{LONG}@\n{'=' * 400}\n",
        "%PDF-1.4 @\n",
        "<html>@\n",
        "data:image/png;base64,AAAA@\n",
        "\x0c@\n",
        "\t@\n",
    ),
    *("A" * 200 + " @\n", "---\n@: @\n---\n", "\ufeff@", "é@", "\x1b[1m@\n", "#!/bin/sh @\n", "1.0 obj @\n"),
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252")


@reading
@given(TEXT, st.sampled_from(ENCODINGS), st.sampled_from(("a.txt", "a.rst", "a", "a.c", "a.md", "a.toml")))
def test_plain_text_and_code_lose_no_word(text, encoding, name):
    text = text.replace("\ufeff", "") if encoding == "cp1252" else text
    assert_all_kept(name, text.encode(encoding), lines(text))


MARKDOWN = of(
    *(
        "# @\n",
        "## @\n",
        "###### @\n",
        "@\n===\n",
        "@\n---\n",
        "---\n",
        "***\n",
        "@ ",
        "@\n",
        "\n",
        "\n\n",
        "- @\n",
    ),
    *(
        "  - @\n",
        "1. @\n",
        "> @\n",
        "> # @\n",
        "- # @\n",
        "    @\n",
        "```\n",
        "```@\n@\n```\n",
        "~~~\n@\n",
        "[^1]: @\n",
    ),
    *(
        "| @ | @ |\n|---|---|\n| @ | @ |\n",
        "| @ |\n",
        "<div>@</div>\n",
        "<!-- ! -->\n",
        "<!-- ! -->@\n",
        "`@`",
    ),
    *(
        "<!-- ! --><!-- ! -->\n",
        "![@](a.png)",
        "[@](b)",
        "[@][1]",
        "[1]: http://!\n",
        "**@**",
        "# <b>@</b> `@`\n",
    ),
    *(
        "# ![@](x) @\n",
        "---\ntitle: @\ntags: [@]\n---\n",
        "---\n@\n---\n",
        "---\n\n",
        "...\n",
        "\\@",
        "&amp;@",
        "<!x>@\n",
    ),
    *(
        f"# {LONG}@\n",
        "# \n",
        "#\n",
        "<details>\n<summary>@</summary>\n\n@\n</details>\n",
        "term\n: @\n",
        "\t- @\n",
    ),
    *(
        "![x](data:image/png;base64,AAAA) @\n",
        "<p hidden>@",
        "$$@$$\n",
        "+ @\n+\n",
        ":::note\n@\n:::\n",
        "--- \n",
    ),
)


@reading
@given(MARKDOWN)
def test_markdown_loses_no_word(text):
    assert_all_kept("a.md", text.encode(), lines(text))


@reading
@given(MARKDOWN)
def test_markdown_below_a_rule_loses_no_word(text):
    text = "---\n" + text
    assert_all_kept("a.md", text.encode(), lines(text))


TAGS = (
    "p div span b i a h1 h2 h6 ul li ol dl dt dd table tr td th tbody caption colgroup col pre section "
    "article main header footer aside nav details summary dialog button select option optgroup form label "
    "textarea title head body html br hr img input script style template noscript svg math desc mi "
    "foreignObject iframe ruby rt xmp listing center font nobr blockquote address fieldset legend object "
    "video frameset plaintext applet marquee"
).split()
ATTRIBUTES = (
    "",
    "",
    "",
    " hidden",
    " style='display:none'",
    " role=navigation",
    " class='a b'",
    " open",
    " x='<p>'",
)
HTML = of(
    *(
        "@ ",
        "@",
        "@\n",
        "\n",
        " ",
        "&amp;@",
        "&#64; ",
        "<!-- ! -->",
        "<!-- ! ",
        "<![CDATA[@]]>",
        "<? ! >",
        "<",
        ">",
    ),
    *(
        "<img alt='@'>",
        "<input value=@>",
        "<input placeholder=@>",
        "<input type=submit value=@>",
        "</",
        "<!doctype html>",
    ),
    *(f"<{tag}{attribute}>" for tag in TAGS if tag != "frameset" for attribute in dict.fromkeys(ATTRIBUTES)),
    *(f"</{tag}>" for tag in TAGS),
    *(f"<{tag}>@</{tag}>\n" for tag in TAGS if tag != "plaintext"),
    size=40,
)
NOT_SHOWN = frozenset(("script", "style", "template", "iframe", "noembed", "noframes"))


def shown_by_lexbor(page):
    """The words that another HTML5 parser finds in a page, outside of what browsers never show."""
    from selectolax.lexbor import LexborHTMLParser

    words = set()
    root = LexborHTMLParser(page).root
    for node in root.traverse(include_text=True) if root else ():
        if node.tag != "-text":
            continue
        above, parent = set(), node.parent
        while parent is not None:
            above.add(parent.tag)
            parent = parent.parent
        if not above & NOT_SHOWN:
            words |= set(WORD.findall(node.text_content or ""))
    return words


@reading
@given(HTML)
def test_html_loses_no_word_that_another_html5_parser_finds(page):
    pytest.importorskip("selectolax")
    shown = shown_by_lexbor(page)
    assert_all_kept("a.html", page.encode(), [entry for entry in lines(page) if entry[0] in shown])


VALUES = st.recursive(
    st.sampled_from(("@", "", "@ @", " ", None, True, 7, 0.5, "\n@\n")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "text")), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(("text", "title", "body", "name", "content", "by", "id", "tags"))
RECORDS = st.dictionaries(KEYS, VALUES, max_size=5) | VALUES
BROKEN = st.sampled_from(('{"text": "@"', "@", "", "  ", '{"text": "@", "text": "@"}', '["@",]', "[" * 3000))


@reading
@given(st.lists(RECORDS.map(json.dumps) | BROKEN, min_size=1, max_size=8))
def test_json_lines_lose_no_word(records):
    text = filled([record + "\n" for record in records])
    ids = re.compile(r'"id": "?[^,}]*')
    assert_all_kept("a.jsonl", text.encode(), lines(ids.sub("", text)))


CELLS = (
    "@",
    " @ ",
    '"@"',
    '"@, @; @"',
    '"@\n@"',
    '"@ ""@"""',
    '"@',
    '@"',
    '"',
    "''",
    "",
    "7",
    '"@" @',
    LONG + "@",
)
TABLE = of(
    *CELLS, *(",;\t|"), *"\n\n,,", "@,@\n", "@;@;@\n", "\n\n", '"@\n@",@\n', '@,7,"@"\n', '\\"', size=40
)


@reading
@given(TABLE, st.sampled_from(("a.csv", "a.tsv", "a.TAB")), st.sampled_from(("\n", "\r\n")))
def test_tables_lose_no_word(text, name, ends):
    assert_all_kept(name, text.replace("\n", ends).encode(), lines(text))


def strings(*templates):
    """A text of a notebook: one string, or one for each line or part of a line."""
    parts = st.lists(st.sampled_from(templates), max_size=4)
    return parts | parts.map("".join)


FORMS = st.fixed_dictionaries(
    {},
    optional={
        "text/plain": strings("@\n", "@ ", "<Figure ! >"),
        "text/html": st.just("<p>!"),
        "image/png": st.just("@"),
        "application/x": st.just({"a": ["!"]}),
    },
)
OUTPUTS = (
    strings("@\n", "@", "\n", "\x1b[1m@\x1b[0m").map(lambda text: {"output_type": "stream", "text": text})
    | FORMS.map(lambda forms: {"output_type": "display_data", "data": forms})
    | strings("@\n", "@").map(lambda text: {"output_type": "display_data", "data": {"text/html": text}})
    | st.just({"output_type": "error", "ename": "!", "evalue": "!", "traceback": ["@", "@ \n@"]})
    | st.sampled_from(
        (
            "@",
            {"data": {"application/x": {"a": ["@"]}, "text/plain": ""}},
            {"output_type": "pyout", "text": ["@\n", "@"]},
            {"output_type": "pyout", "png": "@"},
        )
    )
)
CELLS_OF_NOTEBOOKS = st.builds(
    lambda kind, source, outputs: {"cell_type": kind, "source": source, "outputs": outputs},
    st.sampled_from(("markdown", "code", "raw", "heading")),
    strings(
        "# @\n",
        "@\n",
        "@",
        "\n",
        "```\n",
        "def @():\n",
        "  @ = 1\n",
        "<!-- ! -->\n",
        "---\na: @\n---\n",
        "\r\n",
    ),
    st.lists(OUTPUTS, max_size=3),
) | st.sampled_from(("@", {"source": {"a": "@"}}, {"cell_type": "code", "input": "@", "language": "r"}))


@reading
@given(st.lists(CELLS_OF_NOTEBOOKS, max_size=5), st.sampled_from((None, 0, 1)), st.booleans())
def test_notebooks_lose_no_word(cells, indent, is_old):
    notebook = {"worksheets": [{"cells": cells}]} if is_old else {"cells": cells}
    text = filled([json.dumps(notebook, indent=indent)])
    assert_all_kept("a.ipynb", text.encode(), lines(text))


PYTHON = of(
    *(
        "@ = 1\n",
        "def @():\n    @\n",
        "class @:\n",
        "    def @(self):\n        return @\n",
        "    @ = 2\n",
        "\n",
        "# @\n",
    ),
    *(
        "@deco\n".replace("@", "@ @ "),
        '"""@\n\n@"""\n',
        "if @:\n    @\n",
        "    # @\n",
        "async def @(): @\n",
        "(\n",
    ),
    *(
        "x = '''\n@\n",
        "class @: @ = 1\n",
        "    class @:\n        def @(self): @\n",
        "\x0c\n",
        "@; @\n",
        "print @\n",
    ),
)


@reading
@given(PYTHON)
def test_python_loses_no_word(text):
    assert_all_kept("a.py", text.encode(), lines(text))


PAGES = st.lists(st.sampled_from((["@"], ["@ @", "@"], ["@", "- @"], None, [])), min_size=1, max_size=6)


@reading
@given(PAGES, st.booleans())
def test_pdf_loses_no_word(pages, pack):
    pytest.importorskip("pypdfium2")
    count = iter(range(1000))
    contents, shown = [], []
    for number, page in enumerate(pages, 1):
        texts = [re.sub("@", lambda _: f"q{next(count)}q", line) for line in page or ()]
        shown += [(word, number) for line in texts for word in WORD.findall(line)]
        contents.append(b"0 0 9 9 re f" if page is None else lines_of(texts))
    assert_all_kept("a.pdf", pdf_of_pages(contents, pack=pack), shown)


JSON_LINES = st.lists(
    st.one_of(
        st.text(alphabet='{}[]",:0123456789.eE+-\\u/ \t\r\n\x1c\x85\xa0nulltrefasNIity"', max_size=12),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=6,
        ).map(json.dumps),
        st.sampled_from(
            ("1" * 5000, "[" * 3000 + "]" * 3000, '"\\ud800"', "-NaN", "01", "1.", "[1,]", '{"a":1,}')
        ),
    ),
    max_size=6,
)


@reading
@given(JSON_LINES, st.integers(0, 3))
def test_lines_that_are_passed_by_are_those_that_the_parser_refuses(parts, cut):
    text = "\n".join(part[: len(part) - cut] if index % 2 else part for index, part in enumerate(parts))
    likely, others, plain, said = json_lines(text, 3)
    likely, others = set(likely.tolist()), set(others.tolist())
    told = dict(zip(plain.tolist(), said.split("\n"), strict=plain.size > 0))
    assert not likely & others
    assert not told.keys() & (likely | others)
    for number, line in enumerate(text.split("\n")):
        line = line.strip()
        try:
            is_json = bool(line) and json.JSONDecoder().raw_decode(line)[1] == len(line)
        except (ValueError, RecursionError):
            is_json = False
        assert (number in likely | others | told.keys()) == bool(line)
        assert number not in others or not is_json
        # What is looked at twice is long, or has a number that JSON lacks.
        assert number not in likely or is_json or len(line) > 4000 or re.search("NaN|Infinity", line)
        if number in told:
            assert told[number] == as_told(json.loads(line), line) != ""


def as_told(value, line):
    if isinstance(value, str):
        return value.strip()
    assert isinstance(value, list | int | float)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else line


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1", "1"),
        ("-0", "-0"),
        ("1.50", "1.50"),
        ('" é, [1] "', "é, [1]"),
        ('[1,2 ,"a, b"]', '[1, 2, "a, b"]'),
        ("[ [true,null] ]", "[[true, null]]"),
    ],
)
def test_values_that_are_no_records_are_told_without_the_parser(line, told):
    *_, plain, said = json_lines(f"{{}}\n{line}\n", 32)
    assert (plain.tolist(), said) == ([1], told)


@pytest.mark.parametrize(
    "line",
    [
        "[-0]",
        "[1.0]",
        "[1e5]",
        r'"a\nb"',
        '[{"a":1,"a":2}]',
        "[]",
        '" "',
        "null",
        "[1,2,3,4]",
        "[NaN]",
        '"NaN" NaN',
    ],
)
def test_values_that_the_parser_may_change_are_left_to_it(line):
    assert json_lines(line, 3)[2].size == 0
