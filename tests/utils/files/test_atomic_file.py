"""A file is replaced whole or not at all, and nothing but a file is ever replaced."""

from __future__ import annotations

import os
import stat

import pytest

from ai_os_diffusion.utils.files.atomic_file import replacing


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(path, text: str) -> None:
    with replacing(path) as draft:
        draft.write_text(text)


def test_a_file_is_made_and_replaced_with_its_permissions(tmp_path):
    path = tmp_path / "f"
    write(path, "first")
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    path.chmod(0o640)
    write(path, "second")
    assert path.read_text() == "second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(tmp_path) == ["f", "plain"]


def test_an_exception_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f.tmp").write_text("mine")

    def interrupted() -> None:
        with replacing(tmp_path / "f") as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "f").read_text() == "old"
    assert (tmp_path / "f.tmp").read_text() == "mine"
    assert names(tmp_path) == ["f", "f.tmp"]


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "sub").mkdir()
    for name, kind in [("pipe", "a pipe"), ("link", "a pipe"), ("sub", "a folder")]:
        with pytest.raises(OSError, match=f"expected a regular file or a free name, got {kind}") as raised:
            write(tmp_path / name, "text")
        assert raised.value.filename == str(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["link", "pipe", "sub"]


def test_what_became_a_pipe_meanwhile_stays(tmp_path):

    def overtaken() -> None:
        with replacing(tmp_path / "f") as draft:
            draft.write_text("text")
            os.mkfifo(tmp_path / "f")

    with pytest.raises(OSError, match="got a pipe"):
        overtaken()
    assert (tmp_path / "f").is_fifo()
    assert names(tmp_path) == ["f"]


def test_a_link_keeps_leading_to_the_file(tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "link").symlink_to("f")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_text() == "new"
    (tmp_path / "astray").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "astray", "text")


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as raised:
        write(tmp_path / "no" / "f", "text")
    assert raised.value.filename == str(tmp_path / "no" / "f")


def test_the_longest_name_fits(tmp_path):
    write(tmp_path / ("n" * 255), "text")
    assert names(tmp_path) == ["n" * 255]
