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


def test_a_limit_is_set_where_there_is_a_device_and_counts_as_taken(monkeypatch):
    class Cuda:
        fractions: dict[int, float] = {}  # noqa: RUF012
        device_count = staticmethod(lambda: 2)
        mem_get_info = staticmethod(lambda _device: (800, 1000))
        memory_allocated = staticmethod(lambda _device: 50)
        memory_reserved = staticmethod(lambda _device: 100)
        get_per_process_memory_fraction = staticmethod(lambda device: Cuda.fractions.get(device, 1.0))
        set_per_process_memory_fraction = staticmethod(
            lambda part, device: Cuda.fractions.update({device: part})
        )

    class Torch:
        cuda = Cuda

    monkeypatch.setattr(cuda_backend, "_torch", lambda _device: Torch)
    monkeypatch.setattr(cuda_backend, "resolve_device", lambda device: device)
    assert cuda_backend.memory_info(1) == cuda_backend.MemoryInfo(1000, 800, 50, 50)
    cuda_backend.limit_memory("cpu", 0.5)
    cuda_backend.limit_memory("cuda:1", 1.0)
    assert Cuda.fractions == {}
    cuda_backend.limit_memory("cuda:1", 0.5)
    assert Cuda.fractions == {1: 0.5}
    assert cuda_backend.memory_info(1) == cuda_backend.MemoryInfo(1000, 400, 50, 50)
    cuda_backend.limit_memory("cuda", 0.05)
    assert cuda_backend.memory_info(0).free_bytes == 0


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
@pytest.mark.parametrize(("bfloat16", "number_bytes"), [(True, 2), (False, 4)])
def test_the_torch_backend_asks_for_room_before_it_takes_any(
    monkeypatch, tiny_decoder_dir, bfloat16, number_bytes
):
    torch = pytest.importorskip("torch")
    from ai_os_diffusion.inference import ArrowEngine
    from ai_os_diffusion.inference.torch import device as module

    asked = []

    class Cuda:
        type, index = "cuda", 3

    def refuse(size_bytes, what, device):
        asked.append((size_bytes, what, device))
        raise DeviceError("no room")

    limits = cuda_backend.DeviceLimits("a device", (9, 0), 100, bfloat16, "cuda")
    monkeypatch.setattr(module, "require_memory", refuse)
    monkeypatch.setattr(module, "device_limits", lambda device: limits if device == 3 else None)
    monkeypatch.setattr(module, "memory_info", lambda device: MEMORY if device == 3 else None)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "device", lambda _name: Cuda)
        patch.setattr(torch, "empty", lambda *_args, **_options: None)
        with pytest.raises(DeviceError, match="no room"):
            ArrowEngine(tiny_decoder_dir, backend="torch", device="cpu")
        device = module.Device("cuda:3")
    with ArrowEngine(tiny_decoder_dir, device="cpu") as engine:
        numbers = sum(array.size for array in engine.weights.values())
    assert asked == [(number_bytes * numbers, "the weights", 3)]
    # Nine tenths of what is free, what is kept for later tensors counted, may hold keys and values.
    assert device.room() == 27 * 10**7
    # A quarter of it the rows of a pass, within bounds.
    assert [device.rows(size) for size in (100, 10_000, 10**6)] == [65_536, 6_750, 1024]
