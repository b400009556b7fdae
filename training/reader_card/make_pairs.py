"""Questions and passages from documents that answer them: `make_pairs.py DOCUMENTS OUT --evaluation TEXTS`.

DOCUMENTS is a folder that `fetch.sh` filled: `manuals/` (rendered), `trees/` (unpacked Debian packages) and
`wheels/`. OUT gets `pairs.jsonl.gz` and `pairs_dev.jsonl.gz`, apart by package. TEXTS is a folder of texts
for evaluation: no passage shares a run of twelve words with one of them, or with `squad_dev_a` of AIOS_DATA.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import sys
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from decontamination import Runs
from documents import Document, html_document, manual_page, python_module, text_document
from grammar import Grammar
from licences import debian_licence, wheel_licence
from passages import Passages, words
from questions import Made, Maker

_MOST_PAGES = 160
_MOST_OF_A_KIND = 55
_DEV = 12
"""One package in so many is held out."""
_EXCHANGED = 0.1
_NEGATIVES = 5
_LANGUAGES = ("en", "de", "fr", "es")
_FUNCTION_WORDS = frozenset("the of to a is and in for that be".split())


def is_held_out(package: str) -> bool:
    """Whether nothing is trained on a package."""
    return zlib.crc32(package.encode()) % _DEV == 0


def package_documents(folder: Path) -> Iterator[tuple[str, str, list[Document]]]:
    """Each package with its licence and documents; in an order that is always the same."""
    manuals: dict[str, list[Path]] = defaultdict(list)
    for path in sorted((folder / "man").iterdir()):
        manuals[path.name.split("__")[0]].append(path)
    for tree in sorted((folder / "x").iterdir()):
        package = tree.name
        rng = random.Random(package)
        found = []
        for path in manuals[package]:
            language = re.match(r".*?__(?:(de|fr|es)__)?man", path.name)
            made = manual_page(path, package, (language and language[1]) or "en")
            found += [made] if made else []
        found += pages(tree, package, rng)
        if found:
            yield package, debian_licence(tree, package), found
    for wheel in sorted((folder / "wheels").glob("*.whl")):
        package = re.split("-", wheel.name)[0].lower()
        licence = wheel_licence(wheel)
        if licence and (found := modules(wheel, package)):
            yield f"pypi:{package}", licence, found


def pages(tree: Path, package: str, rng: random.Random) -> Iterator[Document]:
    """Of HTML, and texts that ask and answer."""
    name = re.sub(r"^python-|-(doc|docs|common|manual|data|html|core|base|help)\b.*$|\d[\d.]*$", "", package)
    languages = re.match(r"libreoffice-help-(\w\w)", package)
    language = languages[1] if languages else "en"
    name = {"libreoffice": "LibreOffice", "gimp": "GIMP"}.get(name.split("-")[0], name)
    files = [
        path
        for path in sorted(tree.rglob("*"))
        if path.is_file()
        and re.search(r"\.x?html?(\.gz)?$", path.name)
        and not re.search(
            r"genindex|search|py-modindex|/(ja|de|fr|es|it|ru|zh|ko|pt|tr|nl|pl)[/_-]|\.(ja|de|fr|es|ru|ko|tr|pt-br|zh-cn|da)\b",
            str(path).removeprefix(str(tree)).replace(f"/help/{language}/", "/"),
        )
    ]
    for path in rng.sample(files, min(len(files), _MOST_PAGES)):
        if path.stat().st_size < 1 << 20:
            made = html_document(path, package, name, language)
            if made and is_in(made, language):
                yield made
    for path in sorted(tree.rglob("*")):
        if (
            path.is_file()
            and re.search(r"faq|\.md(\.gz)?$|howto|README", path.name, re.I)
            and not re.search(r"html?$|\.pl$|/examples/", str(path))
            and path.stat().st_size < 1 << 20
        ):
            made = text_document(path, package, name)
            if made and is_in(made, "en"):
                yield made


def is_in(document: Document, language: str) -> bool:
    """Whether an English document is English, by its most frequent words."""
    found = [word for item in document.items[:60] for word in words(item.text)]
    share = sum(word in _FUNCTION_WORDS for word in found) / max(1, len(found))
    return (share > 0.1) if language == "en" else (share < 0.08)


def modules(wheel: Path, package: str) -> list[Document]:
    """Of a wheel."""
    rng, found = random.Random(package), []
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if name.endswith(".py")
            and not re.search(r"(^|/)(tests?|_vendor|vendored|vendor|migrations|locale)/|/_[a-z]", name)
        )
        for name in rng.sample(names, min(len(names), _MOST_PAGES)):
            if archive.getinfo(name).file_size < 400_000:
                module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                made = python_module(archive.read(name).decode(errors="replace"), module, package)
                found += [made] if made else []
    return found


def evaluation_texts(folder: Path) -> Iterator[str]:
    """The texts that nothing is trained on."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink() or path.stat().st_size > 4 << 20:
            continue
        try:
            content = path.read_bytes()
            text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode(errors="replace")
        except (OSError, EOFError, zlib.error):
            continue
        if "/man/" in str(path):
            text = re.sub(r"^[.'][A-Za-z]{1,3}\b|\\f[A-Z]|\\f\(..|\\&|^[.']\\\".*$", " ", text, flags=re.M)
            text = re.sub(r"\\-", "-", text)
        elif re.search(r"html?(\.gz)?$", path.name):
            text = re.sub(r"<[^>]*>", " ", text)
        yield text


def squad_texts() -> Iterator[str]:
    """The paragraphs that answers are measured on."""
    with gzip.open(Path(os.environ["AIOS_DATA"]) / "squad_dev_a" / "corpus.jsonl.gz", "rt") as lines:
        for line in lines:
            yield json.loads(line)["text"]


class Writer:
    """Questions to rows."""

    def __init__(
        self, runs: Runs, strangers: list[str], pools: dict[str, list[str]], rng: random.Random
    ) -> None:
        self._runs, self._strangers, self._pools, self._rng = runs, strangers, pools, rng
        self.dropped: Counter[str] = Counter()

    def rows(self, package: str, licence: str, documents: list[Document], made: list[Made]) -> Iterator[dict]:
        """Those of a package."""
        passages = Passages(documents, self._rng)
        clean = [not self._runs.shares(passage.text) for passage in passages.all]
        self.dropped["passages that stand in evaluation texts"] += len(clean) - sum(clean)
        taken: Counter[str] = Counter()
        seen = set()
        for question in self._rng.sample(made, len(made)):
            key = question.text.lower(), id(question.item)
            gold, begin, end = passages.places.get(id(question.item), (-1, 0, 0))
            if taken[question.kind] >= _MOST_OF_A_KIND or gold < 0 or not clean[gold] or key in seen:
                continue
            row = self._row(passages, clean, question, gold, begin, end)
            if row is None:
                continue
            seen.add(key)
            taken[question.kind] += 1
            yield {**row, "source": package, "licence": licence}

    def _row(
        self, passages: Passages, clean: list[bool], made: Made, gold: int, begin: int, end: int
    ) -> dict | None:
        rng, passage = self._rng, passages.all[gold]
        asked, is_exchanged = made.text, False
        if made.name and rng.random() < _EXCHANGED and (other := self._other(passages, made)):
            asked = re.sub(re.escape(made.name), lambda _: other, asked, flags=re.I)
            is_exchanged = asked != made.text
        told: dict = {"text": passage.text, "relevant": not is_exchanged}
        if not is_exchanged:
            if made.span is not None and begin + made.span[1] <= end:
                first, last = begin + made.span[0], begin + made.span[1]
                if passage.text[first:last].strip():
                    told["answers"] = [{"start": first, "text": passage.text[first:last]}]
            told["block"] = made.is_block or made.span is None
            if not told["block"] and "answers" not in told:
                return None
        # Other parts of the section, and other places that define the same, may answer as well.
        own = set(words(made.item.term)) if made.item.term else set()
        barred = {gold} | {
            number
            for number, other in enumerate(passages.all)
            if (
                other.headings == passage.headings
                and other.document == passage.document
                and made.kind in ("heading", "asked", "how")
            )
            or (own and made.item.kind != "row" and own <= other.terms)
        }
        near = [number for number in passages.nearest(asked, barred, 8) if clean[number]]
        chosen = near[:2] + rng.sample(near[2:], min(len(near[2:]), 2))
        texts = [passages.all[number].text for number in chosen]
        if made.kind in ("heading", "asked", "how") and rng.random() < 0.15:
            texts.insert(0, self._contents(passages, passage))
        texts += rng.sample(self._strangers, max(1, _NEGATIVES - len(texts)))
        texts = [text for text in dict.fromkeys(texts) if text != passage.text][:_NEGATIVES]
        kind = f"exchanged_{made.kind}" if is_exchanged else made.kind
        return {"question": asked, "passages": [told, *({"text": text} for text in texts)], "kind": kind}

    def _other(self, passages: Passages, made: Made) -> str | None:
        """A name of the same kind that the package does not speak of."""
        for _ in range(5):
            name = self._rng.choice(self._pools[made.kind])
            if not passages.nearest(name, set(), 1):
                return name
        return None

    def _contents(self, passages: Passages, passage) -> str:
        """Headings without what stands below them: an echo of the question that answers nothing."""
        heads = list(
            dict.fromkeys(
                one.headings[-1] for one in passages.all if one.document == passage.document and one.headings
            )
        )
        at = heads.index(passage.headings[-1]) if passage.headings else 0
        first = max(0, at - self._rng.randrange(6))
        lines = heads[first : first + self._rng.randrange(4, 14)]
        lead = self._rng.choice(["Contents", "Table of Contents", "In this chapter", "Topics", "See also"])
        return lead + "\n" + "\n".join(f"{self._rng.choice(['', '- ', '* '])}{line}" for line in lines)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--evaluation", type=Path, required=True)
    options = parser.parse_args()
    rng = random.Random(0)
    packages = list(package_documents(options.documents))
    print(
        len(packages), "packages", sum(len(found) for _, _, found in packages), "documents", file=sys.stderr
    )
    grammar = Grammar(
        item.text for _, _, found in packages for one in found if one.language == "en" for item in one.items
    )
    maker = Maker(grammar, rng)
    made = [
        [question for document in found for question in maker.questions(document)] for _, _, found in packages
    ]
    print(len(grammar), "verbs", sum(map(len, made)), "questions", file=sys.stderr)
    pools: dict[str, list[str]] = defaultdict(list)
    for some in made:
        for question in some:
            if question.name:
                pools[question.kind].append(question.name)
    runs = Runs([*evaluation_texts(options.evaluation), *squad_texts()])
    print(len(runs), "runs for evaluation", file=sys.stderr)
    everything = [
        item.shown
        for _, _, found in packages
        for one in found
        for item in one.items
        if 200 < len(item.shown) < 900
    ]
    strangers = [
        text for text in rng.sample(everything, min(len(everything), 30000)) if not runs.shares(text)
    ]
    writer, counts = Writer(runs, strangers, pools, rng), Counter()
    options.out.mkdir(exist_ok=True)
    with (
        gzip.open(options.out / "pairs.jsonl.gz", "wt", 5) as train,
        gzip.open(options.out / "pairs_dev.jsonl.gz", "wt", 5) as dev,
    ):
        for (package, licence, found), some in zip(packages, made, strict=True):
            is_dev = is_held_out(package)
            for row in writer.rows(package, licence, found, some):
                (dev if is_dev else train).write(json.dumps(row, ensure_ascii=False) + "\n")
                counts["dev" if is_dev else "train", row["kind"]] += 1
    for (part, kind), count in sorted(counts.items()):
        print(part, kind, count)
    print(dict(writer.dropped), "train", sum(n for (part, _), n in counts.items() if part == "train"))


if __name__ == "__main__":
    main()
