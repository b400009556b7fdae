"""A pull that was cut short goes on where it had come to."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time

import pytest

from ai_os_diffusion.models.local_models import (
    pull,
)
from ai_os_diffusion.utils.errors import ModelLoadError
from support.loopback_hub import FILES, fetched, metadata


def test_a_connection_dropped_halfway_is_continued(hub, tiny, tmp_path):
    hub.drop_once = {"model.safetensors"}
    folder = pull("tiny", models_dir=tmp_path / "models")
    assert metadata(folder)["source"]["files"]["model.safetensors"]
    ranges = [asked for method, path, asked in hub.requests if path.endswith("model.safetensors") and asked]
    half = len(FILES["model.safetensors"]) // 2
    starts = [int(asked.removeprefix("bytes=").partition("-")[0]) for asked in ranges]
    assert starts == [half]


KILLED = """
import faulthandler, sys
faulthandler.dump_traceback_later(30)
sys.path[:0] = {path!r}
from ai_os_diffusion.models.local_models import pull
pull("hf:org/tiny", models_dir={models!r})
"""


def partial(tmp_path):
    """The file that is being downloaded."""
    return next((tmp_path / "hub-cache").rglob("*.incomplete"), None)


def received(tmp_path) -> int:
    """Bytes of the file another process downloads; 0 while there is none, or once it has got its own name."""
    try:
        return file.stat().st_size if (file := partial(tmp_path)) else 0
    except FileNotFoundError:  # complete, and renamed since it was listed
        return 0


def ranges(hub):
    """First bytes of the parts of the weights that were asked for; None is the whole."""
    asked = [part for method, path, part in hub.requests if method == "GET" and path.endswith("safetensors")]
    return [part and int(part.removeprefix("bytes=").partition("-")[0]) for part in asked]


def pull_killed_halfway(hub, tmp_path) -> int:
    """Kill a process in the middle of the weights; returns how many bytes it left."""
    hub.stalled = {"model.safetensors"}
    code = KILLED.format(path=[path for path in sys.path if path], models=str(tmp_path / "models"))
    half = len(FILES["model.safetensors"]) // 2
    with subprocess.Popen([sys.executable, "-c", code]) as child:
        try:
            deadline = time.monotonic() + 40
            while received(tmp_path) < half:
                if child.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("the child did not come to the middle of the weights")
                time.sleep(0.01)
        finally:
            child.kill()
    hub.stalled.clear()
    hub.requests.clear()
    return half


def test_a_pull_goes_on_within_the_file_after_a_kill(hub, tmp_path):
    half = pull_killed_halfway(hub, tmp_path)
    folder = pull("hf:org/tiny", models_dir=tmp_path / "models")
    assert ranges(hub) == [half]
    assert fetched(hub) == {"model.safetensors"}
    assert partial(tmp_path) is None
    expected = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    assert metadata(folder)["source"]["files"]["model.safetensors"] == expected


def test_a_hub_that_sends_the_whole_file_again_is_no_trouble(hub, tmp_path):
    pull_killed_halfway(hub, tmp_path)
    hub.ignores_ranges = True
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()


def test_what_was_held_of_a_file_is_not_believed(hub, tmp_path):
    half = pull_killed_halfway(hub, tmp_path)
    partial(tmp_path).write_bytes(bytes(half))
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()
    assert ranges(hub) == [half, None]


@pytest.mark.parametrize("size", [0, 1])  # all of it, and more than that
def test_a_file_held_whole_is_not_fetched_and_one_too_long_is(hub, tmp_path, size):
    pull_killed_halfway(hub, tmp_path)
    partial(tmp_path).write_bytes(FILES["model.safetensors"] + bytes(size))
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()
    assert ranges(hub) == ([None] if size else [])


@pytest.mark.parametrize("etag", [hashlib.sha256(b"other").hexdigest(), hashlib.sha1(b"other").hexdigest()])
def test_a_file_whose_hash_is_not_the_hubs_is_refused(hub, tmp_path, etag):
    hub.etags = {"model.safetensors": etag}
    with pytest.raises(ModelLoadError, match=rf"model\.safetensors: its hash is \w+, the hub says {etag}"):
        pull("hf:org/tiny", models_dir=tmp_path / "models")
    content = FILES["model.safetensors"]
    hub.etags["model.safetensors"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert pull("hf:org/tiny", models_dir=tmp_path / "models").is_dir()


def test_files_fetched_before_a_failure_are_not_fetched_again(hub, tmp_path):
    hub.broken = {"model.safetensors"}
    with pytest.raises(ModelLoadError):
        pull("hf:org/tiny", models_dir=tmp_path / "models")
    hub.broken.clear()
    hub.requests.clear()
    pull("hf:org/tiny", models_dir=tmp_path / "models")
    assert fetched(hub) == {"model.safetensors"}
