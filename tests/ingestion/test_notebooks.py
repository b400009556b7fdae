"""Notebooks: cells and outputs in order, with the lines on which they stand in the file."""

import json

import pytest

from ai_os_diffusion.ingestion import Ingestor, read_document, reading
from ai_os_diffusion.utils.errors import IngestError

PNG = "iVBORw0KGgo=" * 40


def cell(kind, source, *outputs):
    return {"cell_type": kind, "metadata": {}, "source": source, "outputs": list(outputs)}


def notebook(*cells, **more):
    return json.dumps({"cells": list(cells), "nbformat": 4, **more}, indent=1)


def blocks(text):
    """Text, titles and cell of each block, whose first line stands where it says."""
    document = read_document("a.ipynb", text.encode())
    assert document.kind == "notebook"
    lines = text.split("\n")
    for block in document.blocks:
        assert block.text.split("\n")[0].split(" ")[0] in lines[block.line - 1]
        assert block.text.split("\n")[-1].split(" ")[-1] in lines[block.end_line - 1]
    return [(block.text, block.headings, block.metadata["cell"]) for block in document.blocks]


def remarks(text):
    return [(remark.kind, remark.lines) for remark in read_document("a.ipynb", text.encode()).remarks]


def test_cells_stand_in_order_below_the_titles_of_those_above():
    text = notebook(
        cell("markdown", ["# Boiler\n", "\n", "Serviced in March.\n", "## Cost"]),
        cell("code", ["price = 12\n", "\n", "def twice(value):\n", "    return 2 * value"]),
        cell("markdown", ["## Roses\n"]),
        cell("raw", "Cut in March."),
        cell("markdown", ["# Last"]),
    )
    assert blocks(text) == [
        ("Serviced in March.", ("Boiler",), 1),
        ("price = 12", ("Boiler", "Cost"), 2),
        ("def twice(value):\n    return 2 * value", ("Boiler", "Cost", "twice"), 2),
        ("Cut in March.", ("Boiler", "Roses"), 4),
        ("# Last", (), 5),
    ]


def test_outputs_that_are_text_stand_below_their_code():
    text = notebook(
        cell(
            "code",
            "work()",
            {"output_type": "stream", "name": "stdout", "text": ["\x1b[1mone\x1b[0m\n", "two\n"]},
            {"output_type": "execute_result", "data": {"text/plain": ["three"], "text/html": "<b>3</b>"}},
            {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["\x1b[0;31mfour", "five"]},
        )
    )
    found = [" ".join(block.text.split()) for block in read_document("a.ipynb", text.encode()).blocks]
    assert found == ["work()", "one two", "three", "four five"]


@pytest.mark.parametrize(
    ("forms", "told"),
    [
        (
            {"text/html": ["<p>Hello\n", "<p hidden>x"], "text/plain": "<IPython.core.display.HTML object>"},
            "Hello",
        ),
        ({"text/markdown": "*Hello*", "text/plain": "<IPython.core.display.Markdown object>"}, "*Hello*"),
        ({"text/latex": "$x^2$", "text/plain": "<x.Latex object>"}, "$x^2$"),
        ({"text/plain": "<Figure size 1x1>"}, "<Figure size 1x1>"),
        ({"text/plain": "x**2", "image/png": PNG}, "x**2"),
        ({"text/plain": "<Figure size 1x1>", "image/png": PNG}, None),
        ({"application/vnd.plot": {"title": "Hello"}}, None),
    ],
)
def test_of_several_forms_of_an_output_one_that_is_text_is_taken(forms, told):
    found = blocks(notebook(cell("code", "", {"output_type": "display_data", "data": forms})))
    assert [text for text, *_ in found] == ([told] if told else [])


def test_pictures_are_named():
    data = {"text/plain": ["<Figure size 1x1>"], "image/png": PNG}
    text = notebook(
        {**cell("markdown", "![a](attachment:a.png)"), "attachments": {"a.png": {"image/png": PNG}}},
        cell("code", "plot()", {"output_type": "display_data", "data": data}),
    )
    numbers = [number for number, line in enumerate(text.split("\n"), 1) if PNG in line]
    assert remarks(text) == [("opaque", tuple((number, number) for number in numbers))]


def test_notebooks_of_format_3():
    cells = [
        {"cell_type": "heading", "level": 1, "source": ["Boiler"]},
        {"cell_type": "code", "language": "python", "input": ["x = 1\n", "y = 2"], "outputs": [
            {"output_type": "pyout", "text": ["three"], "html": ["<b>3</b>"], "png": PNG},
            {"output_type": "pyerr", "ename": "E", "evalue": "four", "traceback": []},
        ]},
    ]  # fmt: skip
    text = json.dumps({"worksheets": [{"cells": cells}], "nbformat": 3}, indent=1)
    assert blocks(text) == [
        ("x = 1\ny = 2", ("Boiler",), 2),
        ("three", ("Boiler",), 2),
        ("E\nfour", ("Boiler",), 2),
    ]
    assert [kind for kind, _ in remarks(text)] == ["opaque"]


def test_code_of_other_languages_is_not_parsed_as_python():
    text = notebook(cell("code", "def f():\n  1"), metadata={"kernelspec": {"language": "ruby"}})
    assert blocks(text) == [("def f():\n  1", (), 1)]


def test_a_notebook_on_one_line_is_read():
    text = json.dumps({"cells": [cell("markdown", ["# A\n", "one\n", "\n", "two"])], "nbformat": 4})
    assert [(text, cell) for text, _, cell in blocks(text)] == [("one", 1), ("two", 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"cells": [', "not JSON.*rename it to .txt"),
        ("Just a note.", "not JSON"),
        ("[" * 200_000, "nested"),
        ('{"cells": 1' + "0" * 5000 + "}", "not JSON|list of cells"),
        ("[1, 2]", "no list of cells"),
        ('{"cells": {}}', "no list of cells"),
        ('{"worksheets": [1]}', "no list of cells"),
    ],
)
def test_what_is_no_notebook_is_refused_with_a_remedy(text, said):
    with pytest.raises(IngestError, match=said):
        read_document("a.ipynb", text.encode())


def test_damaged_cells_are_named_and_the_others_read():
    text = json.dumps(
        {
            "cells": [
                "lost",
                cell("markdown", {"a": "lost"}),
                cell("code", "kept", "lost"),
                None,
                cell(7, ["kept"]),
            ]
        },
        indent=1,
    )
    numbers = [number for number, line in enumerate(text.split("\n"), 1) if "lost" in line]
    assert [text for text, *_ in blocks(text)] == ["kept", "kept"]
    assert remarks(text) == [("damaged", tuple((number, number) for number in numbers))]


def test_half_surrogate_pairs_and_nuls_stay_storable():
    text = '{"cells": [{"cell_type": "markdown", "source": "a \\ud800 b\\u0000c\\r\\nd"}]}'
    (block,) = read_document("a.ipynb", text.encode()).blocks
    assert block.text.encode() == b"a ? bc\nd"


def test_a_notebook_that_is_too_large_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "_SHORT_BYTES", 10)
    monkeypatch.setitem(reading._MAX_WHOLE_BYTES, "notebook", 100)
    path = tmp_path / "a.ipynb"
    path.write_text(notebook(cell("markdown", "words " * 20)))
    with pytest.raises(IngestError, match="larger than"):
        list(Ingestor(lambda texts: [1] * len(texts)).open(str(path), path).chunks())


@pytest.mark.parametrize(
    "text",
    [
        notebook(*[cell("markdown", "word")] * 20_000),
        notebook(cell("code", ["x = 1\n"] * 100_000)),
        notebook(cell("code", "", {"output_type": "stream", "text": "word " * 400_000})),
        notebook(cell("code", "", {"output_type": "stream", "text": ["w "] * 200_000})),
        notebook(cell("code", "", *[{"output_type": "display_data", "data": {"text/html": "<p>a"}}] * 5_000)),
    ],
)
def test_notebooks_that_only_hostile_files_hold_are_read_in_time(text):
    """Each takes hours where its cost is quadratic."""
    assert read_document("a.ipynb", text.encode()).blocks
