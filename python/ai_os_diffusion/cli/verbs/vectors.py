"""`aios embed` and `aios similarity`."""

# Annotations are values here and not strings, which Typer would have to evaluate.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ai_os_diffusion.cli import values
from ai_os_diffusion.cli.completion import model_names
from ai_os_diffusion.cli.failures import UsageError
from ai_os_diffusion.cli.lazy import new_app
from ai_os_diffusion.cli.options import Json, Quiet, Settings
from ai_os_diffusion.cli.terminal.output import note, show_json, show_json_line, show_line, show_row
from ai_os_diffusion.cli.terminal.standard_input import is_file, read_text, to_text
from ai_os_diffusion.utils.cosine import cosines
from ai_os_diffusion.utils.wording import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["app"]

app = new_app()

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Encoder: a name, folder or address.", autocompletion=model_names),
]


@app.command()
def embed(
    ctx: typer.Context,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; - or nothing reads standard input, one text a line.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", parser=values.path, help="Read one text a line from this file.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", parser=values.output, help="Write to this file: .npy, .jsonl or .parquet."
        ),
    ] = None,
    query: Annotated[bool, typer.Option("--query", help="Embed as questions, not as passages.")] = False,
    model: Model = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn texts into vectors.

    Without --out each vector is a line of numbers separated by spaces, or with --json a line
    {"text", "truncated", "embedding"}. A text longer than the model's window is embedded by its beginning;
    how many there were is said on stderr.
    """
    settings: Settings = ctx.obj
    given = _texts(texts, file)
    if texts:
        _tell_file_names(given, "embedded", "; --file embeds its lines", quiet=quiet)
    if out is not None:
        _check_format(out)
    with settings.runtime(model__encoder=model) as runtime:
        encoder = runtime.encoder
        vectors = encoder.encode_query(given) if query else encoder.encode_document(given)
        truncated = encoder.is_truncated(given, "query" if query else "document")
    _tell_truncated(truncated, encoder.max_seq_length, quiet=quiet)
    if out is not None:
        _save(out, given, vectors)
        note(
            f"{counted(len(given), 'vector')} of {counted(vectors.shape[1], 'number')} in {out}", quiet=quiet
        )
        return
    for text, vector, cut in zip(given, vectors, truncated, strict=True):
        if as_json:
            numbers = [float(f"{value:.8g}") for value in vector]
            show_json_line({"text": text, "truncated": bool(cut), "embedding": numbers})
        else:
            show_line(" ".join(f"{value:.6f}" for value in vector))


@app.command()
def similarity(
    ctx: typer.Context,
    first: Annotated[str, typer.Argument(help="A text.")],
    others: Annotated[list[str], typer.Argument(help="One or more texts to compare it with.")],
    model: Model = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say how near two texts are in meaning: their cosine, from -1 to 1.

    With several texts there is one line for each, the cosine first.
    """
    settings: Settings = ctx.obj
    first, *others = map(to_text, (first, *others))
    _refuse_empty([first, *others])
    _tell_file_names([first, *others], "compared", "", quiet=quiet)
    with settings.runtime(model__encoder=model) as runtime:
        encoder = runtime.encoder
        vectors = encoder.encode_document([first, *others])
        truncated = encoder.is_truncated([first, *others], "document")
    scores = cosines(vectors[:1], vectors[1:])[0]
    _tell_truncated(truncated, encoder.max_seq_length, quiet=quiet)
    if as_json:
        rows = zip(others, scores, truncated[1:], strict=True)
        similarities = [
            {"text": text, "cosine": float(score), "truncated": bool(cut)} for text, score, cut in rows
        ]
        show_json({"text": first, "truncated": bool(truncated[0]), "similarities": similarities})
    elif len(others) == 1:
        show_line(f"{scores[0]:.4f}")
    else:
        for text, score in zip(others, scores, strict=True):
            show_row((f"{score:.4f}", text))


def _tell_truncated(truncated: "NDArray[np.bool_]", window: int | None, *, quiet: bool) -> None:
    count = int(truncated.sum())
    if count:
        note(
            f"{count} of {counted(len(truncated), 'text')} {'is' if count == 1 else 'are'} longer than the "
            f"model's {window} tokens: only the beginning counts",
            quiet=quiet,
        )


def _tell_file_names(texts: list[str], done: str, remedy: str, *, quiet: bool) -> None:
    for text in texts:
        if is_file(text):
            note(f"{text} is a file here; its name was {done}, not what it holds{remedy}", quiet=quiet)


def _texts(texts: list[str] | None, file: Path | None) -> list[str]:
    if file is not None and texts:
        raise UsageError("give texts or --file, not both")
    if file is not None:
        from ai_os_diffusion.ingestion.decoding import decode

        found = decode(file.read_bytes())[0].split("\n")
    elif not texts or texts == ["-"]:
        found = read_text().split("\n")
    else:
        texts = list(map(to_text, texts))
        _refuse_empty(texts)
        return texts
    found = [line.rstrip("\r") for line in found if line.strip()]
    if not found:
        raise UsageError("nothing to embed: the input holds no text")
    return found


def _refuse_empty(texts: list[str]) -> None:
    if any(not text.strip() for text in texts):
        raise UsageError("a text is empty; expected some words")


def _check_format(path: Path) -> None:
    if path.suffix not in (".npy", ".jsonl", ".parquet"):
        raise UsageError(f"--out {path}: expected a name that ends in .npy, .jsonl or .parquet")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UsageError(
                "writing Parquet needs pyarrow: pip install 'ai-os-diffusion[arrow]', or write .npy or .jsonl"
            ) from None


def _save(path: Path, texts: list[str], vectors: "NDArray[np.float32]") -> None:
    import json

    import numpy as np

    from ai_os_diffusion.utils.files.atomic_file import replacing

    with replacing(path) as draft:
        if path.suffix == ".npy":
            with draft.open("wb") as file:
                np.save(file, vectors)
        elif path.suffix == ".jsonl":
            with draft.open("w", encoding="utf-8") as lines:
                for text, vector in zip(texts, vectors, strict=True):
                    row = {"text": text, "embedding": vector.tolist()}
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
            pq.write_table(pa.table({"text": texts, "embedding": column}), draft, compression="zstd")
