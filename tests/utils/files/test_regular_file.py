"""A foreign file is opened only if it is one, and read only as far as it may reach."""

from __future__ import annotations

import os
import socket

import pytest

from ai_os_diffusion.utils.errors import ModelDamagedError
from ai_os_diffusion.utils.files.regular_file import open_regular, parse_json, read_json, read_regular


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize("make", [pipe, device, folder, listening])
def test_what_is_no_regular_file_is_refused_by_its_kind(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # sockets have short names
    path = tmp_path / "x"
    make(path.relative_to(tmp_path) if make is listening else path)
    kind = {"pipe": "a pipe", "device": "a device", "folder": "a folder", "listening": "a socket"}[
        make.__name__
    ]
    with pytest.raises(ModelDamagedError, match=rf"x: expected a regular file, got {kind}"):
        open_regular(path, None, ModelDamagedError)


def test_a_file_that_becomes_a_pipe_between_looking_and_opening_does_not_block(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"content")
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(type(path), "stat", lambda *_, **__: regular)
    with pytest.raises(ModelDamagedError, match="a pipe"):
        open_regular(path, None, ModelDamagedError)


def test_a_file_is_read_to_its_limit_and_not_beyond(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_regular(path, 5, ModelDamagedError) == b"12345"
    with pytest.raises(ModelDamagedError, match="has 5 bytes, expected at most 4"):
        read_regular(path, 4, ModelDamagedError)
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room on disk
    with pytest.raises(ModelDamagedError, match="expected at most 5"):
        read_regular(path, 5, ModelDamagedError)
    # As /proc's files do: their size is 0.
    with pytest.raises(ModelDamagedError, match="expected at most 5"):
        read_regular("/proc/self/status", 5, ModelDamagedError)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "nowhere", 5, ModelDamagedError)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_what_is_no_json_is_an_error_of_the_tree(content, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ModelDamagedError, match=r"x\.json: cannot be read as JSON"):
        read_json(path, 1 << 20, ModelDamagedError)
    assert parse_json('{"a": 1}', "x", ModelDamagedError) == {"a": 1}
