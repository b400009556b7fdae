"""`aios doctor` and `aios bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import Json, Quiet, Settings
from ai_os_diffusion.cli.terminal.output import note, show_json, show_line, show_table, size_text
from ai_os_diffusion.utils.errors import ModelLoadError
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    from ai_os_diffusion.runtime import Runtime

__all__ = ["app"]

app = new_app()

# Sentences of ordinary length for `bench`; what they say does not matter.
_SENTENCES = [
    f"Sentence {number} of a short note about the {thing}, written to be measured and not to be read."
    for number, thing in enumerate(
        ("weather", "garden", "train", "library", "kitchen", "harbour", "bridge", "clock") * 16
    )
]


@app.command()
def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Show what this machine offers and what will be used."""
    from ai_os_diffusion.inference.devices.doctor import doctor_report

    settings: Settings = ctx.obj
    report = doctor_report(settings.config())
    if as_json:
        show_json(report)
        return
    show_table(["what", "found"], _doctor_rows(report))
    for remedy in report["remedies"]:
        show_line(f"to do: {remedy}")


@app.command()
def bench(
    ctx: typer.Context,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, callback=values.finite, help="Time for each measurement.")
    ] = 2.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure encoding, decoding and search on this machine.

    A quick look, with what else the machine does in it; the scripts in benchmarks/ compare with others.
    """
    from ai_os_diffusion.utils.cpu_info import get_cpu_info

    settings: Settings = ctx.obj
    rows: dict[str, Any] = {"cpu": get_cpu_info().name}
    with settings.runtime() as runtime:
        for measure in (_bench_encode, _bench_decode, _bench_search):
            try:
                rows.update(measure(runtime, seconds))
            except ModelLoadError as error:
                note(f"left out: {error}", quiet=quiet)
    if as_json:
        show_json(rows)
    else:
        show_table(["what", "value"], [(name.replace("_", " "), value) for name, value in rows.items()])


def _bench_encode(runtime: Runtime, seconds: float) -> dict[str, Any]:
    encoder = runtime.encoder
    batch = _timed(lambda: encoder.encode_document(_SENTENCES), seconds)
    single = _timed(lambda: encoder.encode_query(_SENTENCES[0]), seconds / 2)
    return {
        "encode_sentences_per_s": round(len(_SENTENCES) / batch, 1),
        "encode_one_ms": round(single * 1e3, 3),
    }


def _bench_decode(runtime: Runtime, seconds: float) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "Tell a long story about a lighthouse."}]
    begun = time.perf_counter()
    pieces = runtime.generate(prompt, max_tokens=256)  # type: ignore[arg-type]
    next(pieces, None)
    first = time.perf_counter()
    written = []
    for piece in pieces:
        written.append(piece)
        if time.perf_counter() - first > seconds:
            break
    spent = time.perf_counter() - first
    tokens = int(runtime.decoder.tokenizer.count(["".join(written)])[0])
    return {
        "first_token_ms": round((first - begun) * 1e3, 1),
        "decode_tokens_per_s": round(tokens / spent, 1),
    }


def _bench_search(runtime: Runtime, seconds: float) -> dict[str, Any]:
    """Search what the store holds; nothing is measured over an empty one."""
    count = runtime.memories.count() if runtime.has_store else 0
    if not count:
        return {}
    storage = runtime.memories
    vector = runtime.encoder.encode_query(_SENTENCES[0])
    return {
        "memories": count,
        "search_ms": round(_timed(lambda: storage.query(vector, 10), seconds / 2) * 1e3, 3),
    }


def _timed(run: Callable[[], object], seconds: float) -> float:
    """Median seconds of one run, after one that does not count."""
    run()
    times: list[float] = []
    while not times or sum(times) < seconds:
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _doctor_rows(report: Mapping[str, Any]) -> list[tuple[str, object]]:
    """The report as a person wants to read it: one row a subject."""
    cpu, memory = report["cpu"], report["memory"]
    features = [name for name, present in cpu["features"].items() if present]
    rows: list[tuple[str, object]] = [
        ("aios", report["version"]),
        ("python", f"{report['python']['version']}, {report['python']['executable']}"),
        ("platform", report["platform"]),
        (
            "cpu",
            f"{cpu['name']}, {counted(cpu['physical_cores'], 'core')}, "
            f"{counted(cpu['threads'], 'thread')} used",
        ),
        ("instructions", f"{cpu['isa']} used; found: {', '.join(features) or 'none'}"),
        (
            "memory",
            " of ".join(size_text(memory[name] or 0) for name in ("available_bytes", "total_bytes"))
            + " free",
        ),
        ("device", f"{report['device']['used']}: {report['device']['why']}"),
    ]
    if limits := report["device"]["limits"]:
        free, total = (size_text(report["device"]["memory"][name]) for name in ("free_bytes", "total_bytes"))
        capability = ".".join(map(str, limits["capability"]))
        rows.append(("limits", f"{limits['name']}, capability {capability}, {free} of {total} free"))
    for name, package in report["packages"].items():
        rows.append((name, f"{package['version'] or 'not installed'} ({package['use']})"))
    pulled = ", ".join(model["name"] for model in report["models"]["pulled"])
    rows.append(("models", f"{report['models']['path']}: {pulled or 'none'}"))
    rows.append(("store", report["store"]["path"]))
    return rows
