"""`aios memory`: what the store holds."""

from __future__ import annotations

import itertools
import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.failures import NotFoundError, UsageError
from ai_os_diffusion.cli.filters import condition_of
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import DryRun, Filter, Json, Quiet, Settings, Source, Yes
from ai_os_diffusion.cli.terminal.output import (
    confirm,
    note,
    show_json,
    show_line,
    show_passage,
    show_table,
    size_text,
    where_text,
)
from ai_os_diffusion.cli.terminal.standard_input import to_text
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from ai_os_diffusion.contracts import Memory
    from ai_os_diffusion.storage.memory_view import MemoryView

__all__ = ["app"]

_JSONL = (".jsonl", ".ndjson")

app = new_app(no_args_is_help=True, help="List, show, forget, count, export, import and compact memories.")


@app.command("list")
def list_memories(
    ctx: typer.Context,
    filters: Filter = None,
    source: Source = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10**9, help="Memories at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List memories: id, place and beginning of the text."""
    settings: Settings = ctx.obj
    with settings.runtime() as runtime:
        memories = runtime.memories.iter(filter=condition_of(filters, source))
        found = list(itertools.islice(memories, limit))
        more = next(memories, None) is not None
    if as_json:
        show_json([_memory_dict(memory) for memory in found])
    else:
        show_table(
            ["id", "where", "text"],
            [(memory["memory_id"], _where(memory), _beginning(memory)) for memory in found],
        )
    if more:
        note(f"more than {limit}; --limit shows more", quiet=as_json)


@app.command()
def show(
    ctx: typer.Context,
    memory_id: Annotated[
        str, typer.Argument(parser=values.name, help="Id, as `memory list` shows it, or how only it begins.")
    ],
    as_json: Json = False,
) -> None:
    """Show one memory whole."""
    settings: Settings = ctx.obj
    with settings.runtime() as runtime:
        memory = _found(runtime.memories, to_text(memory_id))
    if as_json:
        show_json({**_memory_dict(memory), "embedding": memory["embedding"].tolist()})
        return
    show_line(f"{memory['memory_id']}  {_where(memory)}")
    show_line(f"created {_time_text(memory['created_at'])}, updated {_time_text(memory['updated_at'])}")
    for key, value in sorted(memory["metadata"].items()):
        show_line(f"  {key}: {value}")
    show_line()
    show_passage([(line, False)] for line in memory["content"].split("\n"))


@app.command()
def forget(
    ctx: typer.Context,
    memory_ids: Annotated[
        list[str] | None, typer.Argument(parser=values.name, help="Ids to forget, or how only they begin.")
    ] = None,
    filters: Filter = None,
    source: Source = None,
    everything: Annotated[bool, typer.Option("--all", help="Forget every memory.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Forget memories by id, by filter or by document."""
    from ai_os_diffusion.storage import holds_for_all

    settings: Settings = ctx.obj
    condition = condition_of(filters, source)
    memory_ids = list(map(to_text, memory_ids or ()))
    if everything:
        if memory_ids or condition is not None:
            raise UsageError("--all forgets every memory; give it without ids, --filter and --source")
        condition = {}
    elif condition is not None and holds_for_all(condition):
        raise UsageError("every memory satisfies this filter; if all are to be forgotten, say --all")
    elif not memory_ids and condition is None:
        raise UsageError("name what to forget: ids, --filter KEY=VALUE, --source PATH, or --all")
    with settings.runtime() as runtime:
        store = runtime.memories
        wanted = dict.fromkeys(_found(store, memory_id)["memory_id"] for memory_id in memory_ids)
        if condition is not None:
            wanted.update(dict.fromkeys(memory["memory_id"] for memory in store.iter(filter=condition)))
        if wanted and not dry_run:
            if not yes:
                confirm(f"Forget {counted(len(wanted), 'memory')}?", as_json=as_json)
            runtime.storage.delete_many(list(wanted))
    if as_json:
        show_json({"forgotten": list(wanted), "dry_run": dry_run})
    else:
        show_line(f"{'would forget' if dry_run else 'forgot'} {counted(len(wanted), 'memory')}")


@app.command()
def compact(ctx: typer.Context, quiet: Quiet = False, as_json: Json = False) -> None:
    """Write the store anew, so that nothing of what was forgotten or replaced stays on the disk.

    It happens by itself to a part of which more than a quarter was forgotten.
    """
    settings: Settings = ctx.obj
    with settings.runtime() as runtime:
        before = _size_bytes(runtime.memories.stats())
        runtime.storage.compact()
        after = _size_bytes(runtime.storage.stats())
    if as_json:
        show_json({"bytes_before": before, "bytes_after": after})
    else:
        note(f"compacted from {size_text(before)} to {size_text(after)}", quiet=quiet)


@app.command()
def stats(ctx: typer.Context, as_json: Json = False) -> None:
    """Count what the store holds."""
    settings: Settings = ctx.obj
    with settings.runtime() as runtime:
        counted = dict(runtime.memories.stats())
        path = runtime.config.storage.path
    if as_json:
        show_json({"path": str(path), **counted})
        return
    rows: list[tuple[str, object]] = [("path", path)]
    for name, value in counted.items():
        is_size = name.endswith("_bytes")
        rows.append((name.removesuffix("_bytes").replace("_", " "), size_text(value) if is_size else value))
    show_table(["what", "value"], rows)


@app.command("export")
def export_memories(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(parser=values.output, help="File to write: .parquet or .jsonl.")],
    yes: Yes = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write every memory to a file: Parquet, which DuckDB, pandas and Polars read, or JSON, one a line."""
    settings: Settings = ctx.obj
    _check_format(file)
    if file.exists() and not yes:
        confirm(f"{file} exists. Replace it?", as_json=as_json)
    with settings.runtime() as runtime:
        memories = runtime.memories
        count = memories.export_jsonl(file) if _is_jsonl(file) else memories.export_parquet(file)
    _tell_count("exported", count, file, quiet=quiet, as_json=as_json)


@app.command("import")
def import_memories(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(parser=values.path, help="File written by `memory export`: .parquet or .jsonl.")
    ],
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare an exported file with its checksum.")
    ] = True,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Take in memories from a file; those of the same id are replaced.

    Vectors of another model than the store's are refused. An empty store becomes one of the file's model.
    Files of other programs, which have no checksum, are taken as they are.
    """
    settings: Settings = ctx.obj
    _check_format(file)
    if not file.is_file():
        raise NotFoundError(f"{file}: no such file")
    with settings.runtime() as runtime:
        storage = runtime.storage
        take = storage.import_jsonl if _is_jsonl(file) else storage.import_parquet
        count = take(file, verify=verify)
    _tell_count("imported", count, file, quiet=quiet, as_json=as_json)


def _found(memories: MemoryView, given: str) -> Memory:
    """The memory of an id, or the only one whose id begins so.

    Raises:
        NotFoundError: there is none.
        UsageError: several ids begin so.
    """
    memory = memories.load(given)
    if memory is not None:
        return memory
    near = list(itertools.islice(memories.iter(filter={"@id": {"$prefix": given}}), 6))
    if len(near) == 1:
        return near[0]
    if near:
        ids = ", ".join(memory["memory_id"] for memory in near[:5]) + (", …" if len(near) > 5 else "")
        raise UsageError(f"several ids begin with {given!r}: {ids}; give more letters of the one you mean")
    if next(memories.iter(filter=condition_of(None, given)), None) is not None:
        raise NotFoundError(f"no memory {given!r}; it is a document's name: --source {shlex.quote(given)}")
    raise NotFoundError(f"no memory {given!r}; `aios memory list` shows the ids")


def _check_format(file: Path) -> None:
    if file.suffix.lower() not in (".parquet", *_JSONL):
        raise UsageError(f"{file}: expected a name that ends in .parquet or .jsonl")


def _is_jsonl(file: Path) -> bool:
    return file.suffix.lower() in _JSONL


def _size_bytes(stats: dict[str, Any]) -> int:
    sizes = ("table_bytes", "vector_bytes", "text_index_bytes", "log_bytes")
    return sum(int(stats[name]) for name in sizes)


def _tell_count(verb: str, count: int, file: Path, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json({verb: count, "file": str(file)})
    else:
        note(f"{verb} {counted(count, 'memory')}: {file}", quiet=quiet)


def _memory_dict(memory: Memory) -> dict[str, Any]:
    return {
        "memory_id": memory["memory_id"],
        "content": memory["content"],
        "metadata": memory["metadata"],
        "created_at": memory["created_at"],
        "updated_at": memory["updated_at"],
    }


def _beginning(memory: Memory) -> str:
    from ai_os_diffusion.ingestion import passage_text

    text = passage_text(memory["content"], memory["metadata"].get("headings"))
    return " ".join(text[:100].split())


def _where(memory: Memory) -> str:
    metadata = memory["metadata"]
    return where_text(str(metadata["source"]), metadata.get("line")) if metadata.get("source") else "-"


def _time_text(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).astimezone().isoformat(sep=" ", timespec="seconds")
    except (ValueError, OverflowError, OSError):  # stores took such times before they were refused
        return f"{seconds:.0f} seconds after 1970"
