"""Memory and limits of CUDA and ROCm devices; what does not fit is refused beforehand."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from ai_os_diffusion.inference import cuda_backend
from ai_os_diffusion.inference.device_utils import get_best_device, resolve_device
from ai_os_diffusion.utils.errors import DeviceError


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_the_cuda_backend_without_torch_says_so():
    for call in (cuda_backend.memory_info, cuda_backend.device_limits, cuda_backend.empty_cache):
        with pytest.raises(DeviceError, match="torch is not installed"):
            call()


@pytest.mark.parametrize("fraction", [0, -1, 1.5, float("nan")])
def test_a_memory_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(DeviceError, match="memory fraction is"):
        cuda_backend.set_memory_fraction(fraction)


@pytest.mark.gpu
def test_a_real_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    kind = get_best_device()
    assert kind in ("cuda", "rocm")
    assert resolve_device(kind) == "cuda"
    assert resolve_device(f"{kind}:0") == "cuda:0"
    with pytest.raises(DeviceError, match="last of its kind"):
        resolve_device(f"{kind}:99")
    before = cuda_backend.memory_info()
    block = torch.zeros(1 << 26, dtype=torch.uint8, device="cuda")
    during = cuda_backend.memory_info()
    assert during.allocated_bytes - before.allocated_bytes == 1 << 26
    assert during.free_bytes < before.free_bytes <= before.total_bytes
    del block
    assert cuda_backend.memory_info().cached_bytes >= 1 << 26
    cuda_backend.empty_cache()
    assert cuda_backend.memory_info().cached_bytes < 1 << 26
    limits = cuda_backend.device_limits()
    assert limits.name
    assert limits.multiprocessors > 0
    cuda_backend.set_memory_fraction(0.01)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.zeros(before.total_bytes // 50, dtype=torch.uint8, device="cuda")
    cuda_backend.set_memory_fraction(1.0)
    with pytest.raises(DeviceError, match="expected a number from 0"):
        cuda_backend.memory_info(99)


MEMORY = cuda_backend.MemoryInfo(10**9, 10**8, 5 * 10**8, 2 * 10**8)


def test_what_a_device_cannot_hold_is_refused_beforehand(monkeypatch):
    monkeypatch.setattr(cuda_backend, "memory_info", lambda _device: MEMORY)
    cuda_backend.require_memory(3 * 10**8, "the weights")
    with pytest.raises(
        DeviceError, match=r"device 1: the weights need 0\.4 GB, free are 0\.3 of 1\.0 GB; .*'cpu'"
    ):
        cuda_backend.require_memory(4 * 10**8, "the weights", 1)


@pytest.mark.torch
def test_the_torch_backend_asks_for_room_before_it_takes_any(monkeypatch, tiny_decoder_dir):
    torch = pytest.importorskip("torch")
    from ai_os_diffusion.inference import ArrowEngine
    from ai_os_diffusion.inference.torch import torch_core

    asked = []

    class Cuda:
        type, index = "cuda", 3

    def refuse(size_bytes, what, device):
        asked.append((size_bytes, what, device))
        raise DeviceError("no room")

    monkeypatch.setattr(torch_core, "require_memory", refuse)
    monkeypatch.setattr(torch, "device", lambda _name: Cuda)
    monkeypatch.setattr(torch, "empty", lambda *_args, **_options: None)
    with pytest.raises(DeviceError, match="no room"):
        ArrowEngine(tiny_decoder_dir, backend="torch", device="cpu")
    monkeypatch.undo()
    engine = ArrowEngine(tiny_decoder_dir, backend="torch", device="cpu")
    core = engine.core.backend
    numbers = sum(tensor.numel() for tensor in core.weights.values())
    assert asked == [(4 * numbers, "the weights", 3)]
    monkeypatch.setattr(torch_core, "require_memory", refuse)
    monkeypatch.setattr(core, "device", Cuda)
    with pytest.raises(DeviceError, match="no room"):
        engine.generate("a", max_tokens=9)
    config = engine.metadata
    keys = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    assert asked[1] == (4 * keys * 10, "the keys and values of 10 tokens", 3)
