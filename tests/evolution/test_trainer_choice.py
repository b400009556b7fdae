"""Which trainer learns, and that torch is imported only where it was asked for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from ai_os_diffusion.evolution import LoRATrainer
from ai_os_diffusion.evolution.learning.trainer_choice import TrainerChoice
from ai_os_diffusion.utils.errors import TrainingError

NATIVE = TrainerChoice("native", "cpu")


def test_the_device_chooses_where_nobody_does(monkeypatch):
    assert TrainerChoice.of(None, "cpu") == TrainerChoice.of("native", "auto") == NATIVE
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("ai_os_diffusion.evolution.learning.trainer_choice._sees_gpu", lambda: True)
    on_gpu = TrainerChoice("torch", "cuda")
    assert TrainerChoice.of(None, "cuda") == TrainerChoice.of(None, "auto") == on_gpu
    assert on_gpu.positions > NATIVE.positions
    monkeypatch.setattr("ai_os_diffusion.evolution.learning.trainer_choice._sees_gpu", lambda: False)
    assert TrainerChoice.of(None, "auto") == NATIVE
    assert TrainerChoice.of("torch", "auto") == TrainerChoice("torch", "cpu")


@pytest.mark.parametrize(
    ("trainer", "device", "told"),
    [
        ("numpy", "cpu", "trainer is 'numpy', expected 'native' or 'torch'"),
        (None, "tpu", "device is 'tpu', expected 'cpu' or 'cuda' or 'auto'"),
        ("native", "cuda", "expected the trainer 'torch'"),
    ],
)
def test_what_is_none_is_named(engine, tmp_path, trainer, device, told):
    with pytest.raises(TrainingError, match=told):
        LoRATrainer(engine, folder=tmp_path, trainer=trainer, device=device)


def test_without_torch_the_extra_is_named(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert TrainerChoice.of(None, "auto") == NATIVE
    for asked in ({"device": "cuda"}, {"trainer": "torch"}):
        with pytest.raises(TrainingError, match=r"pip install 'ai-os-diffusion\[train\]'"):
            LoRATrainer(engine, folder=tmp_path, **asked)


def test_several_processes_are_for_torch(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="2 processes were begun"):
        LoRATrainer(engine, folder=tmp_path)
    present = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "accelerate" else present("json")
    )
    with pytest.raises(TrainingError, match="need accelerate"):
        LoRATrainer(engine, folder=tmp_path, trainer="torch")


def test_learning_natively_imports_no_torch(tiny_decoder_dir, tmp_path):
    code = (
        "import sys\n"
        "from ai_os_diffusion.evolution import LoRAConfig, LoRATrainer\n"
        "trainer = LoRATrainer(sys.argv[1], config=LoRAConfig(rank=2, anchor=0.0), folder=sys.argv[2])\n"
        "trainer.train_qa([{'q': 'Who?', 'a': 'Ada'}], 'facts', epochs=1)\n"
        "loaded = {'torch', 'accelerate'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code, tiny_decoder_dir, tmp_path], check=True)
