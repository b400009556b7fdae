"""Whatever a hub answers: nothing outside its folder, nothing beyond the declared size, no hang."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from ai_os_diffusion.models.hub import client
from ai_os_diffusion.models.local_models import pull
from ai_os_diffusion.utils.bounded_http import Limits
from ai_os_diffusion.utils.errors import ModelLoadError
from ai_os_diffusion.utils.files.clean_name import is_clean_name
from support.hostile_hub import HostileHub, attacks, mutated
from support.loopback_hub import FILES

ATTACKS = list(attacks())
MUTATIONS = [mutated(seed) for seed in range(int(os.environ.get("AIOS_HUB_ANSWERS", "100")))]
PEAK_BYTES = 128 << 20
"""Memory that an answer may cost: a listing of 4 MiB takes up to thirty times as much as Python's objects."""

HANG_S = 60
"""What ends by a limit ends long before, however busy the machine is."""


@pytest.fixture(scope="module")
def server():
    hub = HostileHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hub
    hub.shutdown()
    thread.join()
    hub.server_close()


@pytest.fixture
def quick(monkeypatch):
    limits = Limits(stall_s=0.4, answer_s=0.8, window_s=0.5, window_bytes=4096)
    monkeypatch.setattr(client, "LIMITS", limits)


def files_below(folder: Path) -> dict[Path, int]:
    return {
        Path(parent) / name: (Path(parent) / name).lstat().st_size
        for parent, _, names in os.walk(folder)
        for name in names
    }


def test_there_are_more_than_two_hundred():
    assert len(ATTACKS) > 200
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize(
    "attack", ATTACKS + MUTATIONS, ids=lambda attack: attack.name.encode("unicode_escape").decode()[:60]
)
def test_a_hostile_answer_does_no_harm(attack, server, quick, tmp_path, monkeypatch):
    inside = tmp_path / "a/b/c/d"
    cache, models = inside / "cache", inside / "models"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.attack = attack
    raised: list[BaseException] = []

    def run() -> None:
        try:
            pull("hf:org/tiny", models_dir=models)
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    tracemalloc.start()
    try:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(HANG_S)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        server.attack = None
    assert not thread.is_alive()
    assert peak < PEAK_BYTES

    if not attack.harmless:
        assert raised, "the pull took it"
    for error in raised:
        assert isinstance(error, ModelLoadError)
        assert len(str(error)) < 2000
        assert "hf_secret" not in str(error)
    allowed = (cache / "models--org--tiny", models)
    found = files_below(tmp_path)
    assert all(any(folder in file.parents for folder in allowed) for file in found)
    assert not any(Path("/tmp").glob("aios-hostile*"))
    blobs = {file: size for file, size in found.items() if file.parent == cache / "models--org--tiny/blobs"}
    assert all(is_clean_name(file.name) for file in blobs)
    # No blob is larger than any file of the repository is said to be.
    assert all(size <= max(map(len, FILES.values())) for size in blobs.values())
