"""Passages as the product stores them: `document_passages.py DOCUMENTS OUT --evaluation TEXTS`.

DOCUMENTS is a folder that `fetch.sh` filled. Its manual pages, HTML, texts and Python modules are read
and split as `aios add` does. OUT gets `passages_train.jsonl` and `passages_dev.jsonl`, apart by package as in
`make_pairs.py`, in random order; what shares twelve words in a row with TEXTS is left out.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from decontamination import Runs
from licences import debian_licence, wheel_licence
from make_pairs import evaluation_texts, is_held_out, squad_texts

from ai_os_diffusion.config import load_config
from ai_os_diffusion.inference import FastTokenizer
from ai_os_diffusion.ingestion import Ingestor, stored_text
from ai_os_diffusion.utils.errors import IngestError

_MOST_BYTES = 600_000
_FEWEST_CHARS, _MOST_CHARS = 160, 2400
_LETTERS = 0.55
_NO_DOCUMENT = re.compile(
    r"genindex|py-modindex|searchindex|/search\.|copyright|licen[cs]e|copying|changelog|/tests?/|AUTHORS"
    r"|/_(static|sources|modules)/|/(NEWS|TODO)\b",
    re.I,
)
_NO_SECTION = re.compile(
    r"table of contents|(> (contents|navigation|index)|see also|siehe auch|authors|copyright)$", re.I
)
_TEXT = re.compile(r"\.(x?html?|md|rst|txt)(\.gz)?$|/(README|FAQ|HOWTO|INSTALL)[^/]*$")
_LANGUAGE = re.compile(
    r"__(\w\w)(?:_\w\w)?__man|libreoffice-help-(\w\w)\b|[/._-](de|fr|es|it|pt|nl|pl|ru|ja)[/._-]"
)
# The most frequent words of languages: what a path says of a language is believed where these agree.
_FREQUENT = {
    "en": "the of to a is and in for that be this are with",
    "de": "der die das und ist den von zu nicht mit eine ein wird",
    "fr": "le la les de des et est un une que pour dans du",
    "es": "el la los las de que en y un una es para se",
    "it": "il la di che e un una per è del della non si",
    "pt": "o a os de que e um uma para não do da em",
    "nl": "de het een van en is in dat niet te voor met wordt",
    "pl": "w i na z do nie jest się że to o lub dla",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A document: where it stands in its package, and what opens it."""

    name: str
    content: Path | bytes

    @property
    def title(self) -> str:
        """Its name alone: `fetch.sh` puts that of the package before those of manual pages."""
        return self.name.rpartition("/")[2].rpartition("__")[2]


def packages(folder: Path) -> Iterator[tuple[str, str, list[Found]]]:
    """Each package with its licence and its documents."""
    manuals: dict[str, list[Path]] = {}
    for path in sorted((folder / "man").iterdir()):
        manuals.setdefault(path.name.split("__")[0], []).append(path)
    for tree in sorted((folder / "x").iterdir()):
        files = [Found(path.name, path) for path in manuals.get(tree.name, ())]
        for path in sorted(tree.rglob("*")):
            name = str(path.relative_to(tree))
            if (
                _TEXT.search(name)
                and not _NO_DOCUMENT.search(f"/{name}")
                and path.is_file()
                and not path.is_symlink()
            ):
                files.append(Found(name, path))
        if files:
            yield tree.name, debian_licence(tree, tree.name), files
    for wheel in sorted((folder / "wheels").glob("*.whl")):
        licence = wheel_licence(wheel)
        if licence:
            with zipfile.ZipFile(wheel) as archive:
                files = [
                    Found(name, archive.read(name))
                    for name in sorted(archive.namelist())
                    if re.search(r"\.(py|md|rst)$", name)
                    and not re.search(
                        r"(^|/)(tests?|_?vendor(ed)?|migrations|locale)/|licen[cs]e", name, re.I
                    )
                ]
            yield f"pypi:{wheel.name.split('-')[0].lower()}", licence, files


def language_of(name: str, text: str) -> str | None:
    """Of a passage, from its path; None where its words speak against it."""
    match = _LANGUAGE.search(name)
    told = next((group for group in match.groups() if group), "en") if match else "en"
    words = re.findall(r"\w+", text.lower())
    if told not in _FREQUENT:
        return told if sum(char > "\u02ff" for char in text) > 0.2 * len(text) else None
    shares = {
        language: sum(word in frequent for word in words)
        for language, frequent in ((one, frozenset(some.split())) for one, some in _FREQUENT.items())
    }
    best = max(shares.values())
    return told if shares[told] >= max(2, 0.06 * len(words)) and shares[told] >= 0.8 * best else None


def is_prose(text: str) -> bool:
    """Whether a passage says enough to be asked about: no figures, no lists of names or titles."""
    if _NO_SECTION.search(text.partition("\n")[0]):
        return False
    letters = sum(char.isalpha() for char in text)
    return _FEWEST_CHARS <= len(text) <= _MOST_CHARS and letters >= _LETTERS * len(text)


class Reader:
    """Passages of documents.

    Args:
        most: of a package.
        most_of_one: of a document.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        counter = FastTokenizer(load_config().models_dir / "minilm").count
        self._ingestor = Ingestor(counter, max_tokens=load_config().retrieval.chunk_tokens)
        self._most, self._most_of_one = most, most_of_one
        self.dropped: Counter[str] = Counter()

    def read(self, package: str, licence: str, files: list[Found], runs: Runs) -> Iterator[dict[str, str]]:
        """Some of a package, the same in each run."""
        rng, taken, seen = random.Random(package), 0, set()
        for file in rng.sample(files, len(files)):
            if taken >= self._most:
                return
            size = len(file.content) if isinstance(file.content, bytes) else file.content.stat().st_size
            if size > _MOST_BYTES:
                self.dropped["long documents"] += 1
                continue
            try:
                texts = [
                    stored_text(chunk) for chunk in self._ingestor.open(file.title, file.content).chunks()
                ]
            except IngestError:
                self.dropped["documents that cannot be read"] += 1
                continue
            for text in rng.sample(texts, len(texts))[: self._most_of_one]:
                language = language_of(f"{package}/{file.name}", text)
                key = re.sub(r"\W+", " ", text.lower())
                if language is None or not is_prose(text) or key in seen:
                    self.dropped["no prose, another language, or twice"] += 1
                elif runs.shares(text):
                    self.dropped["stand in evaluation texts"] += 1
                else:
                    seen.add(key)
                    taken += 1
                    yield {
                        "id": f"{package}/{taken}",
                        "text": text,
                        "document": file.name,
                        "package": package,
                        "licence": licence,
                        "language": language,
                    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--evaluation", type=Path, nargs="+", required=True)
    parser.add_argument("--most", type=int, default=400, help="passages of a package")
    parser.add_argument("--most-of-one", type=int, default=12, help="passages of a document")
    options = parser.parse_args()
    runs = Runs(
        [*(text for folder in options.evaluation for text in evaluation_texts(folder)), *squad_texts()]
    )
    print(len(runs), "runs for evaluation", file=sys.stderr)
    reader = Reader(options.most, options.most_of_one)
    rows: dict[bool, list[dict[str, str]]] = {True: [], False: []}
    for package, licence, files in packages(options.documents):
        rows[is_held_out(package)] += reader.read(package, licence, files, runs)
        print(package, *map(len, rows.values()), file=sys.stderr)
    options.out.mkdir(exist_ok=True)
    for is_dev, some in rows.items():
        random.Random(0).shuffle(some)
        path = options.out / f"passages_{'dev' if is_dev else 'train'}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in some), encoding="utf-8")
        print(path.name, len(some), Counter(row["language"] for row in some))
    print(dict(reader.dropped))


if __name__ == "__main__":
    main()
