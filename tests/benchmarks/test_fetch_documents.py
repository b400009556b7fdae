"""Documents for evaluation are taken out of packages as they are listed."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess

import pytest

PAGE = b".TH HELLO 1\n.SH NAME\nhello \\- greets\n.SH OPTIONS\n.TP\n.B \\-q\nsay nothing\n"


@pytest.fixture
def fetcher(benchmark, monkeypatch):
    monkeypatch.syspath_prepend(str(benchmark("real_documents").SETS))
    module = benchmark("fetch")
    if any(shutil.which(tool) is None for tool in module.NEEDED):
        pytest.skip("needs apt-get, dpkg-deb, man and col")
    return module


def packed(folder):
    """A package with a manual page and a note, as `apt-get download` leaves it."""
    tree = folder / "tree"
    control, manual = tree / "DEBIAN" / "control", tree / "usr/share/man/man1/hello.1.gz"
    note = tree / "usr/share/doc/hello/README.gz"
    for file in (control, manual, note):
        file.parent.mkdir(parents=True, exist_ok=True)
    control.write_text(
        "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: x\n"
    )
    manual.write_bytes(gzip.compress(PAGE))
    note.write_bytes(gzip.compress(b"Read me."))
    packages = folder / "packages"
    packages.mkdir()
    subprocess.run(["dpkg-deb", "-b", str(tree), str(packages / "hello_1_all.deb")], check=True)
    return packages / "hello_1_all.deb"


def test_pages_become_text_and_the_rest_stays_as_it_is(fetcher, tmp_path, monkeypatch, capsys):
    deb = packed(tmp_path)
    sources = tmp_path / "sources.json"
    documents = [
        {"file": "usr/share/man/man1/hello.1.gz", "name": "manuals/hello.1.txt", "language": "en"},
        {"file": "usr/share/doc/hello/README.gz", "name": "notes/README.gz", "language": "en"},
        {"file": "usr/share/doc/hello/gone", "name": "notes/gone", "language": "en"},
    ]
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    listed = {"package": "hello", "version": "1", "sha256": digest, "documents": documents}
    sources.write_text(json.dumps([listed]), encoding="utf-8")
    monkeypatch.setattr(fetcher, "SOURCES", sources)
    found = fetcher.fetch(tmp_path)
    manual = (found / "manuals/hello.1.txt").read_text(encoding="utf-8")
    assert "hello - greets" in manual
    assert "\b" not in manual
    assert gzip.decompress((found / "notes/README.gz").read_bytes()) == b"Read me."
    assert "gone is not in it any more" in capsys.readouterr().err
    sources.write_text(json.dumps([{**listed, "sha256": "0", "documents": documents}]), encoding="utf-8")
    fetcher.fetch(tmp_path)
    assert "is not the file that the questions were written on" in capsys.readouterr().err


def test_missing_tools_are_named(fetcher, tmp_path, monkeypatch):
    monkeypatch.setattr(fetcher, "NEEDED", ("no-such-tool",))
    with pytest.raises(FileNotFoundError, match="not found: no-such-tool"):
        fetcher.fetch(tmp_path)
