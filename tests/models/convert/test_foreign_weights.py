"""Weight files of foreign origin: what is no file is not waited for, and what is too large is not read."""

from __future__ import annotations

import json
import os
import struct
import threading
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from ai_os_diffusion.models.convert import convert_model, converter
from ai_os_diffusion.models.convert.pytorch_bin import read_pytorch
from ai_os_diffusion.models.convert.safetensors import read_safetensors, shards_of
from ai_os_diffusion.utils.errors import DiffusionError, ModelLoadError, WeightError
from support.loopback_hub import FILES


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/tty")


def folder(path: Path) -> None:
    path.mkdir()


def itself(path: Path) -> None:
    path.symlink_to(path.name)


def within_time(run) -> list[BaseException]:
    """What a call raises, which must end."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return raised


@pytest.mark.parametrize("make", [pipe, zeros, terminal, folder, itself])
@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "config.json",
        "tokenizer.json",
        "x.gguf",
    ],
)
def test_what_is_no_regular_file_is_refused(name, make, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    if name != "x.gguf":
        for file, data in FILES.items():
            if not (file == "model.safetensors" and "model" in name):
                (source / file).write_bytes(data)
        (source / name).unlink(missing_ok=True)
    make(source / name)
    for given in (source, source / name):
        (error,) = within_time(lambda given=given: convert_model(given, tmp_path / "out"))
        assert isinstance(error, (DiffusionError, OSError))
        assert not isinstance(error, OSError) or error.filename
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [pipe, zeros, folder, itself])
def test_a_shard_that_is_no_regular_file_is_refused(make, tmp_path):
    for file, data in FILES.items():
        (tmp_path / file).write_bytes(data)
    (tmp_path / "model.safetensors").rename(tmp_path / "first.safetensors")
    make(tmp_path / "second.safetensors")
    index = {"weight_map": {"a": "first.safetensors", "b": "second.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (error,) = within_time(lambda: convert_model(tmp_path, tmp_path / "out"))
    assert isinstance(error, (DiffusionError, OSError))


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/passwd",
        "a/b",
        "..",
        ".hidden",
        "C:x",
        "NUL",
        "x\0",
        "x\n",
        None,
        5,
        ["x"],
        {},
    ],
)
def test_an_index_names_files_of_its_folder_only(name, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(WeightError, match="index"):
        shards_of(index)


@pytest.mark.parametrize(
    "content", [b"[" * 1_000_000, b"", b"[]", b'{"weight_map": 5}', b'{"weight_map": []}', b"\xff"]
)
def test_an_index_that_is_none_is_refused(content, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(content)
    with pytest.raises(WeightError, match="index"):
        shards_of(index)


def headed(path: Path, header: bytes, size_bytes: int) -> Path:
    """A safetensors file of a size that takes no room on disk."""
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(size_bytes)
    return path


def test_a_header_is_bounded_before_it_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 99_000_000))
        file.truncate(1 << 30)
    tracemalloc.start()
    with pytest.raises(WeightError, match="a header of 99000000 bytes"):
        read_safetensors(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_header_nested_too_deeply_is_refused(tmp_path):
    header = b'{"a":' * 100_000
    with pytest.raises(WeightError, match="header"):
        read_safetensors(headed(tmp_path / "x.safetensors", header, len(header) + 8))


def test_a_tensor_larger_than_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    for file, data in FILES.items():
        (tmp_path / file).write_bytes(data)
    monkeypatch.setattr(converter, "memory_bytes", lambda: (1000, 1000))
    with pytest.raises(ModelLoadError, match=r"tensor .*: needs .* GB of memory to be read"):
        convert_model(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def checkpoint(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: checkpoint(path, {"a/data.pkl": bytes(64 << 20)}, zipfile.ZIP_DEFLATED),
            "is compressed",
        ),
        (lambda path: checkpoint(path, {"a/data/0": bytes(64 << 20)}, zipfile.ZIP_DEFLATED), "is compressed"),
        (lambda path: checkpoint(path, {"a/data.pkl": bytes(17 << 20)}), "expected at most"),
        (lambda path: path.write_bytes(b"\x80\x02}q\x00."), "not a checkpoint"),
        (lambda path: path.write_bytes(b""), "not a checkpoint"),
        (lambda path: path.write_bytes(b"PK\5\6" + b"\xff" * 18), "not a checkpoint"),
    ],
)
def test_a_checkpoint_that_would_be_unpacked_is_refused_before_torch_sees_it(make, message, tmp_path):
    path = tmp_path / "pytorch_model.bin"
    make(path)
    with pytest.raises(WeightError, match=message):
        read_pytorch(path)
