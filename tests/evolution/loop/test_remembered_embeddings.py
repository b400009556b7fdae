"""Texts that are embedded once."""

import numpy as np

from ai_os_diffusion.evolution.loop import remembered_embeddings
from ai_os_diffusion.evolution.loop.remembered_embeddings import RememberedEmbeddings


def counting():
    asked = []

    def embed(texts):
        asked.append(list(texts))
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32).reshape(-1, 2)

    return embed, asked


def test_each_text_is_embedded_once():
    embed, asked = counting()
    remembered = RememberedEmbeddings(embed)
    for texts in (["one", "two", "one"], ["two", "three"], ["three", "one"], []):
        found = remembered(texts)
        np.testing.assert_array_equal(found, embed(texts))
        asked.pop()
        assert found.shape == (len(texts), 2)
    assert asked == [["one", "two"], ["three"], []]


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(remembered_embeddings, "_MOST", 4)
    embed, asked = counting()
    remembered = RememberedEmbeddings(embed)
    for number in range(6):
        texts = [f"{number}", "again"]
        np.testing.assert_array_equal(remembered(texts), embed(texts))
        asked.pop()
    assert sum(texts.count("again") for texts in asked) == 3
