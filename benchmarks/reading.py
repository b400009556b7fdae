"""What reading costs, without embedding: seconds a megabyte and peak memory, by format and shape of document.

Each document is a file that a process of its own reads to passages, as `add` does. Their tokens are counted
by the real tokenizer if it is there; how long that takes is told apart.

    python benchmarks/reading.py [FORMAT[:SHAPE] ...] [--megabytes 2 10] [--seconds 120]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from document_shapes import SHAPES, pieces
from measure import report
from packed_shapes import PACKED, write_packed


class Counter:
    """Counts tokens, and the time that takes."""

    def __init__(self) -> None:
        from ai_os_diffusion.config import load_config
        from ai_os_diffusion.inference import FastTokenizer

        folder = load_config().models_dir / "minilm"
        self._count = FastTokenizer(folder).count if folder.is_dir() else lambda texts: map(len, texts)
        self.seconds = 0.0

    def __call__(self, texts):
        """Tokens of each text."""
        begun = time.perf_counter()
        counts = list(self._count(texts))
        self.seconds += time.perf_counter() - begun
        return counts


def peak_mb() -> int:
    """Peak of resident memory; `getrusage` would say that of the parent where it is more."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) // 1024


def read(path: Path) -> dict[str, object]:
    """Read a file to passages and report what it cost."""
    from ai_os_diffusion.ingestion import Ingestor
    from ai_os_diffusion.utils.errors import IngestError

    counter = Counter()
    before = peak_mb()
    wall, processor = time.perf_counter(), time.process_time()
    passages, refused = 0, ""
    try:
        for _ in Ingestor(counter).open(path.name, path).chunks():
            passages += 1
    except IngestError as error:
        refused = str(error)
    processor = time.process_time() - processor
    figures = {
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu": round(processor, 2),
        "counting": round(counter.seconds, 2),
        "peak_mb": peak_mb(),
        "peak_mb_before": before,
        "passages": passages,
    }
    return {**figures, "refused": refused} if refused else figures


def write(path: Path, shape: str, size_bytes: int) -> None:
    """A document of a shape, of the format that its name says."""
    extension = path.suffix.removeprefix(".")
    if extension in PACKED:
        write_packed(path, extension, shape, size_bytes)
        return
    with path.open("w", encoding="utf-8") as file:
        file.writelines(pieces(extension, shape, size_bytes))


def measured(path: Path, seconds: int) -> dict[str, object]:
    command = [sys.executable, __file__, "--inside", str(path)]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"failed": f"more than {seconds} s"}
    except subprocess.CalledProcessError as error:
        return {"failed": error.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wanted", nargs="*", default=[*SHAPES, *PACKED], metavar="FORMAT[:SHAPE]")
    parser.add_argument("--megabytes", type=float, nargs="*", default=[2, 10])
    parser.add_argument("--seconds", type=int, default=120, help="after which a document is given up")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(read(Path(options.inside))))
        return
    figures: dict[str, dict[str, object]] = {}
    for wanted in options.wanted:
        extension, _, only = wanted.partition(":")
        for shape in [only] if only else {**SHAPES, **PACKED}[extension]:
            for megabytes in options.megabytes:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, f"a.{extension}")
                    write(path, shape, int(megabytes * 1e6))
                    cost = measured(path, options.seconds)
                if "cpu" in cost:
                    cost["cpu_per_mb"] = round(cost["cpu"] / megabytes, 3)
                figures.setdefault(f"{extension}:{shape}", {})[f"{megabytes:g}"] = cost
                print(f"{extension}:{shape:20} {megabytes:5g} MB {json.dumps(cost)}", flush=True)
    report(megabytes=figures)


if __name__ == "__main__":
    main()
