"""PyTorch checkpoints: only through the loader that runs no code, and only with torch."""

from __future__ import annotations

import pickle
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ai_os_diffusion.models.convert.pytorch_bin import read_pytorch
from ai_os_diffusion.utils.errors import ModelLoadError, WeightError


def test_without_torch_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
        archive.writestr("model/data.pkl", b"")
    with pytest.raises(ModelLoadError, match=r"install `ai-os-diffusion\[gpu\]`"):
        read_pytorch(tmp_path / "pytorch_model.bin")


@pytest.mark.torch
def test_tensors_come_back_in_their_types(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "pytorch_model.bin"
    values = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7
    state = {
        "single": values,
        "transposed": values.T,
        "half": values.half(),
        "brain": values.bfloat16(),
        "ids": torch.arange(3),
    }
    torch.save(state, path)
    tensors = {tensor.name: tensor for tensor in read_pytorch(path)}
    assert set(tensors) == {"single", "transposed", "half", "brain"}
    np.testing.assert_array_equal(tensors["single"].read(), values.numpy())
    np.testing.assert_array_equal(tensors["transposed"].read(), values.numpy().T)
    assert tensors["transposed"].read().flags.c_contiguous
    np.testing.assert_array_equal(tensors["half"].read(), values.numpy().astype(np.float16))
    assert tensors["brain"].dtype == "bfloat16"
    brain = values.bfloat16().float().numpy().view(np.uint32) >> 16
    np.testing.assert_array_equal(tensors["brain"].read(), brain)


class _Harmful:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.torch
def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weights": _Harmful()}, path)
    with pytest.raises(WeightError, match="without running code"):
        read_pytorch(path)
    path.write_bytes(pickle.dumps(_Harmful()))
    with pytest.raises(WeightError, match="not a checkpoint of torch"):
        read_pytorch(path)
