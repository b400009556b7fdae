"""What others call a file becomes part of a path only if it is one clean name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_os_diffusion.utils.files.clean_name import MAX_NAME_BYTES, is_clean_name, is_clean_path

CLEAN = [
    *("model.safetensors", "model-00001-of-00002.safetensors", "a b.gguf", "Größe.json", "模型.gguf"),
    *("com", "console.json", "nullable", "com10.txt", "-x", "a..b", "x" * MAX_NAME_BYTES, "0123456789abcdef"),
]
UNCLEAN = [
    *("", ".", "..", ".hidden", ".pth", "a/b/", "/etc/passwd", "../x", "a\\b", "..\\x", "\\\\host\\x"),
    *("C:x", "C:\\x", "x:stream", "a*", "a?", "a<b", "a|b", 'a"b', "x.", "x ", " x"),
    *("a\0b", "a\nb", "a\tb", "\x1b[2J", "a\u202eb", "a\u200bb", "a\ud800b", "\ufeffa", "e\u0301"),
    *("con", "NUL", "nul.json", "Com1.txt", "LPT9", "com¹", "CONIN$", "aux .txt"),
    *("x" * (MAX_NAME_BYTES + 1), "é" * 101),
]


@pytest.mark.parametrize("name", CLEAN)
def test_clean(name):
    assert is_clean_name(name)
    assert is_clean_path(f"folder/{name}")


@pytest.mark.parametrize("name", UNCLEAN, ids=repr)
def test_unclean(name):
    assert not is_clean_name(name)
    assert not is_clean_path(f"folder/{name}")
    assert not is_clean_path(name)


@pytest.mark.parametrize("name", [None, 7, b"x", ["x"]])
def test_what_is_no_text_is_no_name(name):
    assert not is_clean_name(name)
    assert not is_clean_path(name)


@pytest.mark.parametrize("path", ["/a", "a//b", "a/", "a/../b", "a/./b", "/".join("abcdefghi"), "a" * 10_000])
def test_unclean_paths(path):
    assert not is_clean_path(path)


@given(st.text())
def test_a_clean_path_stays_below_its_folder(text):
    if is_clean_path(text):
        joined = Path("/models") / text
        assert joined.resolve() == joined
        assert joined != Path("/models")
