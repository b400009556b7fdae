"""Run every benchmark and keep its last line: `run.py [NAME...]`, by default all of them.

Each script prints its figures and ends with one line of JSON; those go into `results/`, one file a run,
so that figures of different machines and days can be laid side by side.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHARED = {
    "document_shapes",
    "judging",
    "measure",
    "models",
    "open_questions",
    "packed_shapes",
    "run",
    "squad",
    "values",
    "writers",
}


def main() -> int:
    names = sys.argv[1:] or sorted(file.stem for file in HERE.glob("*.py") if file.stem not in SHARED)
    results = HERE / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    results.parent.mkdir(exist_ok=True)
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py")], stdout=subprocess.PIPE, text=True, check=False
        )
        print(done.stdout)
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            failed.append(name)
            continue
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(json.loads(lines[-1])) + "\n")
    print(f"results: {results}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
