import errno
import os
from pathlib import Path

import pytest

from ai_os_diffusion.ingestion import Found, Skipped, walk


def names(items, root):
    return [item.path.relative_to(root.resolve()).as_posix() for item in items if isinstance(item, Found)]


@pytest.fixture
def folder(tmp_path):
    for name in (
        "b.txt",
        "a/x.md",
        ".git/config",
        "node_modules/m.js",
        "venv/pyvenv.cfg",
        "venv/v.py",
        "uv.lock",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def test_hidden_and_generated_files_are_passed_by(folder):
    assert names(walk([folder]), folder) == ["a/x.md", "b.txt"]


def test_all_takes_them_but_not_what_git_keeps(folder):
    assert len(names(walk([folder], takes_all=True), folder)) == 6
    assert names(walk([folder / ".git"], takes_all=True), folder) == []


def test_each_that_is_passed_by_is_named_with_the_reason(folder):
    (folder / ".gitignore").write_text("# what is built\n\nb.*\n")
    ignored = {Path(item.path).name: item.reason for item in walk([folder]) if isinstance(item, Skipped)}
    assert ignored == {
        ".git": "what git keeps of a repository, no documents",
        ".gitignore": "hidden",
        "b.txt": f"ignored by {folder}/.gitignore:3: b.*",
        "node_modules": "generated or installed",
        "uv.lock": "generated",
        "venv": "generated or installed",
    }


def test_a_folder_nested_more_deeply_than_calls(tmp_path):
    folders = [tmp_path]
    for _ in range(1500):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    (folders[-1] / "a.txt").write_text("x")
    try:
        assert len(names(walk([tmp_path]), tmp_path)) == 1
    finally:
        # What cleans up calls itself as deeply.
        (folders[-1] / "a.txt").unlink()
        for folder in reversed(folders[1:]):
            folder.rmdir()


def test_a_file_named_directly_is_taken_and_taken_once(folder):
    paths = [folder / ".git" / "config", folder / "b.txt", folder / "b.txt", folder]
    assert names(walk(paths), folder) == [".git/config", "b.txt", "a/x.md"]


def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(walk([tmp_path / "nowhere"]))


def test_links_and_pipes_are_skipped_with_a_reason(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    skipped = {Path(item.path).name: item.reason for item in walk([tmp_path]) if isinstance(item, Skipped)}
    assert skipped["loop"] == "a link to a folder"
    assert skipped["broken"].startswith("unreadable")
    assert skipped["pipe"] == "not a regular file"


@pytest.mark.parametrize("inside", [".", "above", "above/far"])
def test_an_unreadable_folder_is_skipped_with_a_reason(tmp_path, close_folder, inside):
    (tmp_path / "open.txt").write_text("x")
    (tmp_path / "above" / "far" / "closed").mkdir(parents=True)
    close_folder(tmp_path / "above" / "far" / "closed" if inside == "." else tmp_path / inside)
    found = list(walk([tmp_path]))
    assert names(found, tmp_path) == ["open.txt"]
    (skipped,) = (item for item in found if isinstance(item, Skipped))
    assert skipped.reason == "unreadable: Permission denied"


def test_a_folder_that_may_be_listed_but_not_entered_is_skipped(tmp_path, monkeypatch):
    (tmp_path / "listed" / "inner").mkdir(parents=True)
    (tmp_path / "open.txt").write_text("x")

    def stat(path, *args, real=os.stat, **options):
        if "inner" in Path(path).parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    found = list(walk([tmp_path]))
    assert names(found, tmp_path) == ["open.txt"]
    assert [item.reason for item in found if isinstance(item, Skipped)] == ["unreadable: Permission denied"]


def test_names_that_are_not_utf8_are_skipped_with_a_reason(tmp_path):
    for name in (b"plain.txt", b"caf\xe9.txt", b"d\xe9/inner.txt"):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    found = list(walk([tmp_path]))
    assert names(found, tmp_path) == ["plain.txt"]
    skipped = {item.path.rpartition("/")[2]: item.reason for item in found if isinstance(item, Skipped)}
    assert set(skipped) == {r"caf\xe9.txt", r"d\xe9"}
    assert all("not UTF-8" in reason for reason in skipped.values())
    named = tmp_path / os.fsdecode(b"caf\xe9.txt")
    assert [type(item) for item in walk([named])] == [Skipped]
