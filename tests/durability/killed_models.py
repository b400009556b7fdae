"""Kills a process that installs, replaces or removes a model, or fails it, at every file operation it makes.

Run as `killed_models.py FOLDER VERB exchange|renames kill|fail`: prints a line of JSON for each: what a
process that only reads found after it, and what there was when the same was done again.

Each run is a fork of this process, which itself starts no thread and calls no native code.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ai_os_diffusion.inference import ArrowEngine
from ai_os_diffusion.models.contents import verify_model
from ai_os_diffusion.models.convert import convert_model
from ai_os_diffusion.models.local_models import list_models, pull, remove_model, resolve_model
from ai_os_diffusion.utils.errors import DiffusionError
from ai_os_diffusion.utils.files import atomic_folder
from support.loopback_hub import tiny_bert

# What Python reports before it does it; opening counts where it may make or change a file.
OPERATIONS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.symlink", "fcntl.flock"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def source(folder: Path, scale: float) -> Path:
    """A model as a hub would hold it, whose weights depend on `scale`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in tiny_bert().items():
        (folder / name).write_bytes(data)
    config = json.loads((folder / "config.json").read_text())
    config["layer_norm_eps"] = scale
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def prepare_repull(work: Path) -> None:
    pull(source(work / "a/tiny", 1e-12), models_dir=work / "models")
    pull(source(work / "b/tiny.v2", 1e-12), models_dir=work / "models")
    source(work / "a/tiny", 1e-6)


def repull(work: Path) -> None:
    pull(work / "a/tiny", models_dir=work / "models")


def prepare_first(work: Path) -> None:
    pull(source(work / "b/tiny.v2", 1e-12), models_dir=work / "models")
    source(work / "a/tiny", 1e-6)


def prepare_copy(work: Path) -> None:
    prepare_repull(work)
    shutil.rmtree(work / "a/tiny")
    convert_model(source(work / "new", 1e-6), work / "converted/tiny")
    description = work / "models/tiny/metadata.json"
    metadata = json.loads(description.read_text())
    metadata["source"]["name"] = str(work / "converted/tiny")
    description.write_text(json.dumps(metadata))


def copy(work: Path) -> None:
    pull(work / "converted/tiny", models_dir=work / "models")


def prepare_force(work: Path) -> None:
    prepare_repull(work)


def force(work: Path) -> None:
    convert_model(work / "a/tiny", work / "models/tiny", overwrite=True)


def quantize(work: Path) -> None:
    convert_model(work / "models/tiny.v2", work / "models/tiny", quantize="int8", overwrite=True)


def remove(work: Path) -> None:
    remove_model("tiny", models_dir=work / "models")


VERBS: dict[str, tuple[Callable[[Path], None], Callable[[Path], None]]] = {
    "pull": (prepare_first, repull),
    "re-pull": (prepare_repull, repull),
    "copy": (prepare_copy, copy),
    "convert --force": (prepare_force, force),
    "quantize": (prepare_repull, quantize),
    "rm": (prepare_repull, remove),
}


def count_operations(operation: Callable[[str, tuple[object, ...]], None]) -> None:
    """Have `operation` called before each file operation of this process, with its name and arguments."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in OPERATIONS or (event == "open" and int(arguments[2]) & WRITING):  # type: ignore[call-overload]
            operation(event, arguments)

    sys.addaudithook(hook)
    fsync, exchange = os.fsync, atomic_folder._exchange

    def fsync_told(descriptor: int) -> None:
        operation("fsync", (Path(f"/proc/self/fd/{descriptor}").readlink(),))
        fsync(descriptor)

    def exchange_told(one: Path, other: Path) -> bool:
        operation("exchange", (one, other))
        return exchange(one, other)

    os.fsync, atomic_folder._exchange = fsync_told, exchange_told


def forked(run: Callable[[], object]) -> tuple[int, object]:
    """Run in a process of its own: its exit status, and what it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            os.write(writing, json.dumps(run()).encode())
            status = 0
        except BaseException as error:  # noqa: BLE001
            os.write(writing, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), json.loads(said) if said else None


def cut_short(work: Path, verb: Callable[[Path], None], number: int, end: str) -> str | None:
    """Run a verb whose n-th file operation is not done: it dies before it, or the operation fails.

    Returns:
        The class and text of the error, None without one, "done" if it has not so many operations.
    """
    count = 0

    def operation(*_: object) -> None:
        nonlocal count
        count += 1
        if count != number:
            return
        if end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(errno.EIO, os.strerror(errno.EIO), "somewhere")

    count_operations(operation)
    try:
        verb(work)
    except (OSError, DiffusionError) as error:
        return f"{type(error).__name__}: {error}"
    return "done" if count < number else None


def look(work: Path) -> dict[str, list[object]]:
    """What a reader finds: each model by name, verified by every hash and opened."""
    found: dict[str, list[object]] = {}
    for model in list_models(models_dir=work / "models"):
        folder = resolve_model(model.name, models_dir=work / "models")
        verify_model(folder)
        metadata = json.loads((folder / "metadata.json").read_text())
        with ArrowEngine(folder) as engine:
            assert np.isfinite(engine.encode("hello world")).all()
        found[model.name] = [metadata["norm_eps"], metadata["quantization"]["type"]]
    return found


def litter(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob(".*") if not path.name.endswith(".lock"))


def trace(work: Path, verb: Callable[[Path], None]) -> list[list[str]]:
    told: list[list[str]] = []
    count_operations(lambda name, arguments: told.append([name, *map(str, arguments)]))
    verb(work)
    return told


def main(folder: Path, name: str, way: str, end: str) -> None:
    prepare, verb = VERBS[name]
    if way == "renames":
        atomic_folder._exchange = lambda _one, _other: False
    work = folder / "work"
    status, problem = forked(lambda: prepare(work))
    assert status == 0, problem
    # A model knows the path of its source: the folder keeps its name, the state is copied back into it.
    shutil.copytree(work, folder / "template")
    number, said = 0, None
    while said != "done":
        number += 1
        shutil.rmtree(work)
        shutil.copytree(folder / "template", work)  # with its times, which tell whether a source changed
        status, said = forked(lambda number=number: cut_short(work, verb, number, end))
        assert status in (0, -signal.SIGKILL), said
        seen = forked(lambda: look(work))
        # What came to its end is not done again, and nothing else is removed twice.
        undone = (status != 0 or said not in (None, "done")) and (
            name != "rm" or (work / "models/tiny").exists()
        )
        again = forked(lambda: verb(work)) if undone else None
        row = {"number": number, "status": status, "said": said, "seen": seen, "again": again}
        row |= {"litter": litter(work / "models"), "after": forked(lambda: look(work))}
        print(json.dumps(row), flush=True)
    shutil.rmtree(work)
    shutil.copytree(folder / "template", work)
    print(json.dumps(forked(lambda: trace(work, verb))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
