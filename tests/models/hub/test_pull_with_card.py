"""A model that is another with a card of its own: one backbone on the disk, under two names."""

from __future__ import annotations

import dataclasses
import errno
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models import pull_request, registry
from ai_os_diffusion.models.cards import Base, Card, CardDescription
from ai_os_diffusion.models.contents import sha256_of, verify_model
from ai_os_diffusion.models.local_models import list_models, pull, remove_model
from ai_os_diffusion.models.registry import SHIPPED, PinnedFile, known_models
from ai_os_diffusion.utils.errors import WeightError
from support.loopback_hub import metadata, tiny_model


@pytest.fixture
def models(hub, tiny, monkeypatch, tmp_path):
    """The registry knows "tiny-with", whose card comes with the package."""
    models, shipped = tmp_path / "models", tmp_path / "shipped"
    shipped.mkdir()
    monkeypatch.setattr(pull_request, "SHIPPED", shipped)
    offer(monkeypatch, shipped, pull("tiny", models_dir=models), seed=0)
    return models


def offer(monkeypatch, shipped: Path, base: Path, seed: int) -> None:
    with ArrowEngine(base) as engine:
        width = engine.dimension
        name = next(name for name in engine.weights if name.endswith("LayerNorm.weight"))
    norm = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    about = CardDescription("with", "skill", Base.of_folder(base), 0, 1.0)
    file = Card.write(shipped / "with.parquet", about, [(name, norm)]).path
    pin = PinnedFile(file.name, sha256_of(file), file.stat().st_size)
    known = {
        **known_models(),
        "tiny-with": dataclasses.replace(tiny_model(), name="tiny-with", base="tiny", card=pin),
    }
    monkeypatch.setattr(registry, "_load", lambda _registry: known)


def test_it_is_there_without_the_network_and_shares_the_files_of_its_base(hub, models):
    hub.requests.clear()
    folder = pull("tiny-with", models_dir=models, offline=True)
    assert hub.requests == []
    assert (folder / "weights.parquet").samefile(models / "tiny/weights.parquet")
    assert verify_model(folder)["card.parquet"] == metadata(folder)["source"]["card"]
    assert [model.name for model in list_models(models_dir=models)] == ["tiny", "tiny-with"]
    with ArrowEngine(folder) as engine, ArrowEngine(models / "tiny") as base:
        assert engine.attached == {"with": 1.0}
        assert base.attached == {}
        assert np.abs(engine.encode("Ann") - base.encode("Ann")).max() > 1e-3
        engine.detach("with")
        assert (engine.encode("Ann") == base.encode("Ann")).all()


def test_its_base_may_go(models):
    folder = pull("tiny-with", models_dir=models)
    remove_model("tiny", models_dir=models)
    assert verify_model(folder)
    assert pull("tiny-with", models_dir=models, offline=True) == folder


def test_where_there_are_no_links_files_are_copied(models, monkeypatch):
    def refuse(*_names):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    folder = pull("tiny-with", models_dir=models)
    assert not (folder / "weights.parquet").samefile(models / "tiny/weights.parquet")
    assert verify_model(folder)


def test_another_card_of_a_later_release_takes_its_place(models, monkeypatch):
    folder = pull("tiny-with", models_dir=models)
    before = verify_model(folder)["card.parquet"]
    offer(monkeypatch, pull_request.SHIPPED, models / "tiny", seed=1)
    assert verify_model(pull("tiny-with", models_dir=models))["card.parquet"] != before


def test_its_base_is_pulled_with_it(models):
    remove_model("tiny", models_dir=models)
    pull("tiny-with", models_dir=models)
    assert (models / "tiny/weights.parquet").is_file()
    pull("tiny-with", quantize="int4", models_dir=models)
    assert (models / "tiny-with-int4/weights.parquet").samefile(models / "tiny-int4/weights.parquet")


def test_a_damaged_card_is_named(models):
    folder = pull("tiny-with", models_dir=models)
    card = folder / "card.parquet"
    card.write_bytes(card.read_bytes()[:-100])
    with pytest.raises(WeightError, match=r"card\.parquet"):
        ArrowEngine(folder)
    with pytest.raises(WeightError, match=r"card\.parquet"):
        verify_model(folder)


def test_every_shipped_card_is_the_one_that_is_pinned():
    for model in known_models().values():
        if model.card is not None:
            assert model.base in known_models()
            file = SHIPPED / model.card.name
            assert (file.stat().st_size, sha256_of(file)) == (model.card.size_bytes, model.card.sha256)
