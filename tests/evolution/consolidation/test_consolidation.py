"""A model learns by itself what its skills know, as a version that can be taken back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from ai_os_diffusion._native import WeightFile  # noqa: E402
from ai_os_diffusion.evolution import (  # noqa: E402
    Consolidation,
    DecisionLog,
    LoRAConfig,
    LoRATrainer,
    QAPair,
    SkillTest,
    SkillVersions,
    Tolerances,
)
from ai_os_diffusion.inference import ArrowEngine  # noqa: E402
from ai_os_diffusion.models.convert import convert_model  # noqa: E402
from ai_os_diffusion.models.convert.folder import copy_model  # noqa: E402
from ai_os_diffusion.models.convert.plain_model import write_plain_model  # noqa: E402
from ai_os_diffusion.models.local_models import list_models  # noqa: E402
from ai_os_diffusion.models.model_versions import ModelVersions  # noqa: E402
from ai_os_diffusion.utils.errors import TrainingError  # noqa: E402

FACTS = {
    "first": [QAPair("Who wrote the first program?", "Ada"), QAPair("When was it printed?", "1843")],
    "second": [QAPair("Who built that?", "nobody"), QAPair("Where is the model?", "London")],
}
ALL = [pair for pairs in FACTS.values() for pair in pairs]
SMALL = {"rank": 4, "batch_size": 4, "rate": 1e-2, "warm_up": 5, "anchor": 0.0, "dropped_words": 0.0}
WHOLE = LoRAConfig(**SMALL | {"rate": 3e-3, "precision": "float32"})

LENIENT = Tolerances(diverged=1e9, risen=1e9)
"""Random weights are nowhere what they were."""


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _few_questions(monkeypatch):
    """Each is answered twice, to the longest answer there is."""
    few = ("What is a river?", "How do I boil an egg?", "Why is the sky blue?")
    monkeypatch.setattr("ai_os_diffusion.evolution.judging.model_gate.everyday_questions", lambda: few)


def embed(texts):
    """Every question is like the ones with its first word."""
    words = [text.split()[0] for text in texts]
    found = np.zeros((len(texts), 64), np.float32)
    for row, word in enumerate(words):
        found[row, sum(word.encode()) % 64] = 1
    return found


def teach(folder):
    """Give the model of a folder skills."""
    with ArrowEngine(folder / "models" / "tiny", num_threads=1) as engine:
        for name, pairs in FACTS.items():
            trainer = LoRATrainer(engine, config=LoRAConfig(**SMALL), folder=folder / "skills")
            trainer.train_qa(pairs, name, epochs=60, held_out=pairs)


@pytest.fixture(scope="module")
def taught(tiny_decoder_dir, tmp_path_factory):
    """A folder of models with one, and of its skills."""
    folder = tmp_path_factory.mktemp("taught")
    copy_model(tiny_decoder_dir, folder / "models" / "tiny", origin={"name": "tiny"})
    teach(folder)
    return folder


@pytest.fixture
def models(taught, tmp_path):
    shutil.copytree(taught, tmp_path, dirs_exist_ok=True)
    return tmp_path / "models"


def consolidation(engine, models, epochs=60, **settings):
    return Consolidation(
        engine,
        embed,
        models.parent / "skills",
        ModelVersions(models),
        "tiny",
        config=WHOLE,
        epochs=epochs,
        **{"tolerances": LENIENT, **settings},
    )


def test_the_new_version_knows_what_skills_knew_and_can_be_taken_back(models):
    versions, told = ModelVersions(models), []
    before = (models / "tiny" / "weights.parquet").read_bytes()
    with ArrowEngine(models / "tiny", num_threads=1) as engine:
        assert SkillTest.of(engine, ALL).exact_match == 0.0
        decision = consolidation(engine, models).run(told.append)
    assert (decision.decision, decision.skill, decision.reasons) == ("consolidated", "tiny.1", ())
    assert decision.figures["right_after"] == 1.0
    assert versions.current("tiny") == "tiny.1"
    assert {model.name for model in list_models(models_dir=models)} == {"tiny", "tiny.1"}
    with ArrowEngine(models / "tiny.1", num_threads=1) as engine:
        assert SkillTest.of(engine, ALL).exact_match == 1.0
        # Its skills are those of the version before.
        with pytest.raises(TrainingError, match="no skill of its own"):
            consolidation(engine, models)
    assert (models / "tiny" / "weights.parquet").read_bytes() == before
    stored = [
        {name: WeightFile(models / one / "weights.parquet").info(name)["quant_type"] for name in names}
        for one in ("tiny", "tiny.1")
        for names in [WeightFile(models / one / "weights.parquet").names]
    ]
    assert stored[0] == stored[1]
    versions.use("tiny", "tiny")
    assert versions.current("tiny") == "tiny"
    assert [line["step"] for line in told] == list(range(1, 61))
    assert not list((models.parent / "skills" / ".evolution").glob("*model*"))


def bits_of(folder):
    """Bits of each matrix of a model, by name; 32 where it is of plain numbers."""
    file = WeightFile(folder / "weights.parquet")
    kinds = {name: file.info(name)["quant_type"] for name in file.names}
    return {
        name: int(kind.removeprefix("int")) if kind else 32
        for name, kind in kinds.items()
        if len(file.info(name)["shape"]) == 2
    }


@pytest.mark.parametrize("kind", ["int4", "int2"])
def test_a_version_of_a_model_of_few_bits_has_eight(tiny_decoder_dir, tmp_path, kind):
    models, plain = tmp_path / "models", tmp_path / "plain"
    weights = WeightFile(tiny_decoder_dir / "weights.parquet")
    write_plain_model(
        plain, tiny_decoder_dir, {name: weights.dequantize(name) for name in weights.names}, "tiny"
    )
    convert_model(plain, models / "tiny", quantize=kind, name="tiny")
    teach(tmp_path)
    assert min(bits_of(models / "tiny").values()) == int(kind.removeprefix("int"))
    with ArrowEngine(models / "tiny", num_threads=1) as engine:
        decision = consolidation(engine, models).run()
    assert (decision.decision, decision.reasons) == ("consolidated", ())
    assert min(bits_of(models / "tiny.1").values()) == 8
    before, after = ((models / name / "metadata.json").read_text() for name in ("tiny", "tiny.1"))
    assert f'"{kind}"' in before
    assert '"int8"' in after
    assert f'"{kind}"' not in after


def test_what_harms_elsewhere_is_not_used(models):
    with ArrowEngine(models / "tiny", num_threads=1) as engine:
        decision = consolidation(engine, models, tolerances=Tolerances()).run()
    assert decision.decision == "not consolidated"
    assert any("everyday questions" in reason for reason in decision.reasons)
    assert decision.figures["divergence_elsewhere"] > 0.05
    assert ModelVersions(models).names("tiny") == ["tiny"]
    assert not (models / "tiny.1").exists()
    assert DecisionLog(models.parent / "skills").read()[-1].decision == "not consolidated"


def test_what_loses_questions_of_skills_is_not_used(models):
    with ArrowEngine(models / "tiny", num_threads=1) as engine:
        decision = consolidation(engine, models, epochs=1).run()
    assert decision.decision == "not consolidated"
    assert "were answered right with them and 0 by the new version" in decision.reasons[0]


def test_broken_off_it_goes_on_to_the_same_weights(models):
    steps = []
    with ArrowEngine(models / "tiny", num_threads=1) as engine:
        consolidation(engine, models).run()
        whole = (models / "tiny.1" / "weights.parquet").read_bytes()
        with pytest.raises(TrainingError, match="broken off"):
            consolidation(engine, models).run(steps.append, lambda: len(steps) == 20)
        consolidation(engine, models).run(steps.append)
    assert [line["step"] for line in steps] == list(range(1, 61))
    assert ModelVersions(models).current("tiny") == "tiny.2"
    ours, theirs = (WeightFile(models / name / "weights.parquet") for name in ("tiny.1", "tiny.2"))
    assert len(whole) == (models / "tiny.2" / "weights.parquet").stat().st_size
    for name in ours.names:
        np.testing.assert_array_equal(ours.dequantize(name), theirs.dequantize(name))


_KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_consolidation import ArrowEngine, consolidation
import ai_os_diffusion.evolution.consolidation.consolidation as module
import ai_os_diffusion.evolution.judging.model_gate as gate
module._SAVED_EVERY_S = 0.0
gate.everyday_questions = lambda: ("What is a river?",)
models = Path(sys.argv[2])
with ArrowEngine(models / "tiny", num_threads=1) as engine:
    new = consolidation(engine, models, 30)
    print(new.run(lambda line: print(line["step"], flush=True)).decision)
"""


@pytest.mark.slow
def test_killed_at_any_moment_there_is_the_old_version_or_the_new_one_whole(models):
    rng = np.random.default_rng(int(os.environ.get("AIOS_KILLS", "0")))
    versions = ModelVersions(models)
    command = [sys.executable, "-c", _KILLED, Path(__file__).parent, models]
    for step, delay_s in ((3, 0.0), (15, 0.01), (30, 0.1), (30, 0.6)):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if line.strip().isdecimal() and int(line) >= step:
                break
        time.sleep(delay_s * rng.random())
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with ArrowEngine(models / versions.current("tiny"), num_threads=1) as engine:
            assert SkillTest.of(engine, ALL[:1]).said
        if versions.current("tiny") != "tiny":
            break
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    assert done[-1] == "consolidated"
    assert versions.current("tiny").startswith("tiny.")
    assert SkillVersions(models.parent / "skills").current("first") == 1


def test_without_what_was_learned_there_is_nothing_to_consolidate(engine, tmp_path):
    (tmp_path / "skills").mkdir()
    with pytest.raises(TrainingError, match="expected skills that hold what they learned"):
        Consolidation(engine, embed, tmp_path / "skills", ModelVersions(tmp_path), "tiny")
