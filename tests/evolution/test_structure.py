"""Two texts have one structure where they are built alike, whatever they say."""

from __future__ import annotations

import pytest

from ai_os_diffusion.evolution.learning.structure import structure_of


@pytest.mark.parametrize(
    ("text", "structure"),
    [
        ("", ""),
        ("A sentence.\nAnother.", "text"),
        ("- one\n- two\n\n  - three", "-"),
        ("* one", "*"),
        ("1. one\n2) two", "1."),
        ("# Heading\ntext\n- a\n- b\ntext", "#, text, -, text"),
        ("```python\nx = 1\n```", "```, text, ```"),
        ("-5 degrees", "text"),
        ("**Bold** words\n#hashtag", "text"),
        ("> said\n| a | b |", ">, |"),
        ("3.5 metres", "text"),
        ('{"b": 1, "a": [true, null, 2.5]}', "{a: [boolean | null | number], b: number}"),
        ('[{"x": "y"}, {"x": "z"}]', "[{x: string}]"),
        (' \n{"a": {}}\n', "{a: {}}"),
        ('{"a": 1', "text"),
        ("[1] is a source", "text"),
        ("42", "text"),
        ("[" * 100_000 + "]" * 100_000, "text"),
    ],
)
def test_what_a_text_is_built_of(text, structure):
    assert structure_of(text) == structure
