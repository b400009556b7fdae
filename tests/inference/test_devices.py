"""Devices are found from what the system says, described in faked roots, and refused with a remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ai_os_diffusion.config import load_config
from ai_os_diffusion.inference import cuda_backend
from ai_os_diffusion.inference.device_utils import (
    get_best_device,
    get_cpu_features,
    get_device_info,
    is_rocm_platform,
    is_vulkan_available,
    print_device_info,
    resolve_device,
)
from ai_os_diffusion.inference.devices import doctor
from ai_os_diffusion.inference.devices.device_probe import find_library, probe_accelerators, vulkan_drivers
from ai_os_diffusion.inference.devices.doctor import doctor_report
from ai_os_diffusion.inference.intel_opt import intel_report, recommended_threads
from ai_os_diffusion.utils.cpu_info import get_cpu_info, memory_bytes
from ai_os_diffusion.utils.errors import DeviceError

GIB = 1 << 30


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def cpu_files(cores: int, threads_per_core: int = 1) -> dict[str, str]:
    files = {"proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Test CPU\n"}
    for cpu in range(cores * threads_per_core):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files[f"{folder}/core_id"] = f"{cpu % cores}\n"
        files[f"{folder}/physical_package_id"] = "0\n"
    return files


@pytest.fixture
def empty(tmp_path):
    return tmp_path


@pytest.fixture
def amd(tmp_path):
    node = "sys/class/kfd/kfd/topology/nodes"
    return write(
        tmp_path,
        {
            f"{node}/0/properties": "cpu_cores_count 8\nsimd_count 0\n",
            f"{node}/1/properties": "cpu_cores_count 0\nsimd_count 304\ngfx_target_version 90402\n",
            f"{node}/1/name": "aqua_vanjaram\n",
            f"{node}/1/mem_banks/0/properties": f"heap_type 1\nsize_in_bytes {64 * GIB}\n",
            f"{node}/10/properties": "simd_count 60\ngfx_target_version 110000\n",
            "sys/module/amdgpu/version": "6.10.5\n",
        },
    )


@pytest.fixture
def nvidia(tmp_path):
    return write(
        tmp_path,
        {
            "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\n",
            "proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t NVIDIA RTX A2000\nIRQ: 1\n",
        },
    )


@pytest.fixture
def intel_gpu(tmp_path):
    return write(
        tmp_path,
        {
            "usr/lib/x86_64-linux-gnu/libze_loader.so.1": "",
            "sys/class/drm/card0/device/vendor": "0x8086\n",
            "sys/class/drm/card0/device/device": "0x56a0\n",
            "sys/class/drm/card0-HDMI-A-1/device/vendor": "0x8086\n",
            "sys/class/drm/card1/device/vendor": "0x10de\n",
        },
    )


def test_cores_are_counted_once_for_their_threads(tmp_path):
    root = write(tmp_path, cpu_files(4, threads_per_core=2))
    info = get_cpu_info(root, allowed=set(range(8)))
    assert (info.name, info.vendor) == ("Test CPU", "GenuineIntel")
    assert (info.logical_cores, info.physical_cores, info.usable_cores) == (8, 4, 4)
    assert get_cpu_info(root, allowed={0, 4}).physical_cores == 1
    assert get_cpu_info(root, allowed={0, 1}).physical_cores == 2


@pytest.mark.parametrize(
    ("files", "quota", "usable"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5, 2),
        ({"sys/fs/cgroup/cpu.max": "20000 100000\n"}, 0.2, 1),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None, 4),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
            3,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            4,
        ),
    ],
)
def test_a_container_limits_the_threads(tmp_path, files, quota, usable):
    root = write(tmp_path, {**cpu_files(4), **files})
    info = get_cpu_info(root, allowed={0, 1, 2, 3})
    assert info.quota_cores == quota
    assert info.usable_cores == usable


def test_memory_counts_a_containers_limit(tmp_path):
    root = write(tmp_path, {"proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nOdd line\n"})
    assert memory_bytes(root) == (16 * GIB, 8 * GIB)
    write(tmp_path, {"sys/fs/cgroup/memory.max": "max\n"})
    assert memory_bytes(root) == (16 * GIB, 8 * GIB)
    write(tmp_path, {"sys/fs/cgroup/memory.max": f"{2 * GIB}\n"})
    assert memory_bytes(root) == (2 * GIB, 2 * GIB)


def test_a_system_that_says_nothing_is_described_all_the_same(empty):
    assert memory_bytes(empty) == (None, None)
    assert get_cpu_info(empty).physical_cores >= 1
    assert probe_accelerators(empty) == []
    assert get_best_device(empty) == "cpu"
    assert not is_rocm_platform(empty)
    assert not is_vulkan_available(empty)
    assert [info.kind for info in get_device_info(empty)] == ["cpu"]


def test_amd_gpus_are_the_nodes_with_simd_units(amd):
    first, second = probe_accelerators(amd)
    assert (first.kind, first.index, first.name, first.memory_bytes) == ("rocm", 0, "aqua_vanjaram", 64 * GIB)
    assert (second.index, second.name, second.memory_bytes) == (1, "AMD GPU 110000", None)
    assert first.driver == "6.10.5"
    assert is_rocm_platform(amd)


def test_rocm_without_a_gpu_is_still_its_platform(tmp_path):
    (tmp_path / "opt/rocm").mkdir(parents=True)
    assert is_rocm_platform(tmp_path)


def test_nvidia_gpus_are_found_without_their_tool(nvidia):
    (gpu,) = probe_accelerators(nvidia)
    assert (gpu.kind, gpu.name, gpu.driver, gpu.memory_bytes) == (
        "cuda",
        "NVIDIA RTX A2000",
        "550.54.15",
        None,
    )


def tool(folder: Path, body: str) -> str:
    file = folder / "nvidia-smi"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return str(file)


def test_the_tool_of_nvidia_knows_the_memory(nvidia):
    said = "NVIDIA H200, 143771, 570.86.15\nNVIDIA H200, [N/A], 570.86.15"
    first, second = probe_accelerators(nvidia, smi=tool(nvidia, f"printf '{said}\\n'"))
    assert (first.name, first.memory_bytes, first.driver) == ("NVIDIA H200", 143771 << 20, "570.86.15")
    assert (second.index, second.memory_bytes) == (1, None)


@pytest.mark.parametrize("body", ["exit 9", "echo nonsense", "printf '\\377\\376'"])
def test_a_broken_tool_leaves_what_the_system_says(nvidia, body):
    (gpu,) = probe_accelerators(nvidia, smi=tool(nvidia, body))
    assert gpu.name == "NVIDIA RTX A2000"


def test_a_tool_that_hangs_is_given_up(nvidia, monkeypatch):
    monkeypatch.setattr("ai_os_diffusion.inference.devices.device_probe.SMI_TIMEOUT_S", 0.2)
    (gpu,) = probe_accelerators(nvidia, smi=tool(nvidia, "exec sleep 60"))
    assert gpu.name == "NVIDIA RTX A2000"


def test_intel_gpus_count_when_their_runtime_is_there(intel_gpu):
    (gpu,) = probe_accelerators(intel_gpu)
    assert (gpu.kind, gpu.name) == ("xpu", "Intel GPU 0x56a0")
    (intel_gpu / "usr/lib/x86_64-linux-gnu/libze_loader.so.1").unlink()
    assert probe_accelerators(intel_gpu) == []


def test_vulkan_needs_loader_and_driver(tmp_path):
    driver = "usr/share/vulkan/icd.d/radeon_icd.x86_64.json"
    root = write(tmp_path, {driver: "{}"})
    assert vulkan_drivers(root, {}) == []
    write(tmp_path, {"usr/lib/libvulkan.so.1": ""})
    assert vulkan_drivers(root, {}) == [root / driver]
    assert is_vulkan_available(root)
    assert vulkan_drivers(root, {"VK_DRIVER_FILES": "/nonexistent.json"}) == []
    assert vulkan_drivers(root, {"VK_ICD_FILENAMES": str(root / driver)}) == [root / driver]


def test_libraries_are_found_where_the_environment_says(tmp_path):
    write(tmp_path, {"own/libx.so": ""})
    assert find_library("libx.so", tmp_path / "root", {}) is None
    environ = {"LD_LIBRARY_PATH": f"/nonexistent::{tmp_path / 'own'}"}
    assert find_library("libx.so", tmp_path / "root", environ) == tmp_path / "own/libx.so"


def test_the_cpu_is_always_there(empty):
    assert resolve_device("cpu", empty) == "cpu"
    assert resolve_device(" CPU ", empty) == "cpu"
    assert resolve_device("auto", empty) == "cpu"


@pytest.mark.parametrize("device", ["gpu", "", "cuda:", "cuda:x", "cuda:-1", "auto:0", "cpu:a", "cuda:0:1"])
def test_unknown_devices_are_refused(device, empty):
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda, rocm, xpu, mps"):
        resolve_device(device, empty)


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
@pytest.mark.parametrize(
    ("device", "needs"),
    [("cuda", "an NVIDIA GPU"), ("rocm", "an AMD GPU"), ("xpu:0", "an Intel GPU"), ("mps", "a Mac")],
)
def test_an_absent_device_is_refused_with_what_is_there(device, needs, tmp_path):
    root = write(tmp_path, cpu_files(2))
    with pytest.raises(DeviceError, match=rf"needs {needs}.*found: cpu \(Test CPU\); use one of these"):
        resolve_device(device, root)


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_a_device_without_torch_names_what_to_install(amd):
    with pytest.raises(DeviceError, match=r"found aqua_vanjaram, but torch is not installed; .*ROCm build"):
        resolve_device("rocm", amd)
    assert get_best_device(amd) == "cpu"


@pytest.mark.torch
def test_a_cpu_build_of_torch_does_not_make_a_gpu(amd):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceError, match=r"found aqua_vanjaram, but torch .* does not see it"):
        resolve_device("rocm", amd)


MEMORY = cuda_backend.MemoryInfo(10**9, 10**8, 5 * 10**8, 2 * 10**8)
LIMITS = cuda_backend.DeviceLimits("A GPU", (9, 0), 132, True, "cuda")


def test_the_doctor_tells_limits_and_memory_of_the_device_in_use(monkeypatch, tmp_path):
    config = load_config(environ={}, overrides={"models_dir": tmp_path, "storage.path": tmp_path / "store"})
    assert doctor_report(config, tmp_path)["device"]["limits"] is None
    monkeypatch.setattr(doctor, "get_best_device", lambda _root: "cuda")
    monkeypatch.setattr(doctor, "device_limits", lambda: LIMITS)
    monkeypatch.setattr(doctor, "memory_info", lambda: MEMORY)
    device = json.loads(json.dumps(doctor_report(config, tmp_path)["device"]))
    assert (device["used"], device["limits"]["name"], device["memory"]["free_bytes"]) == (
        "cuda",
        "A GPU",
        10**8,
    )

    def lost():
        raise RuntimeError("CUDA error: device is lost")

    monkeypatch.setattr(doctor, "memory_info", lost)
    report = doctor_report(config, tmp_path)
    assert report["device"]["memory"] is None
    assert any("device is lost" in remedy for remedy in report["remedies"])


def test_intel_report_reads_the_features(intel_gpu):
    write(intel_gpu, cpu_files(2))
    report = intel_report(
        intel_gpu, {"avx512vnni": True, "amx-tile": True, "amx-int8": True, "amx-bf16": True}
    )
    assert report.is_intel
    assert report.vnni
    assert report.amx == ("int8", "bf16")
    assert [gpu.kind for gpu in report.gpus] == ["xpu"]
    without = intel_report(intel_gpu, {"amx-int8": True})
    assert (without.vnni, without.amx) == (False, ())
    assert recommended_threads(intel_gpu) == report.threads >= 1


def test_cpu_features_are_those_of_this_machine():
    features = get_cpu_features()
    assert all(isinstance(present, bool) for present in features.values())
    flags = Path("/proc/cpuinfo")
    if flags.exists() and "avx2" in features:
        assert features["avx2"] == (" avx2 " in flags.read_text().replace("\n", " "))


def test_printing_marks_the_device_in_use(capsys):
    print_device_info()
    said = capsys.readouterr().out
    assert said.startswith("cpu:0")
    assert said.count("<- used") == 1


def test_the_doctor_describes_and_advises(tmp_path, amd):
    config = load_config(
        environ={}, overrides={"models_dir": tmp_path / "models", "storage.path": tmp_path / "store"}
    )
    report = json.loads(json.dumps(doctor_report(config, amd)))
    assert report["devices"][1]["kind"] == "rocm"
    assert report["models"]["path"] == str(tmp_path / "models")
    assert report["models"]["exists"] is False
    assert report["store"]["free_bytes"] > 0
    assert any("aios pull minilm" in remedy for remedy in report["remedies"])
    assert report["cpu"]["isa"] in ("scalar", "avx2", "avx512", "amx", "neon")
    if find_spec("torch") is None:
        assert report["device"]["used"] == "cpu"
        assert any("torch is not installed" in remedy for remedy in report["remedies"])


def test_detection_imports_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from ai_os_diffusion.inference import device_utils as d;"
        f"root = Path({str(tmp_path)!r}); d.get_device_info(root); d.resolve_device('auto', root);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
