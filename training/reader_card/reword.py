"""Some questions of `make_pairs.py` in other words: `reword.py PAIRS OUT --wordnet FOLDER`.

What a question was made of is asked in the wordings `[again]`, and words give way to others of the same
meaning: those of WordNet whose first meaning is each other's. Documents and those who ask seldom choose the
same words. Passages of other programs about an option of the same name join those that do not answer.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections import defaultdict
from pathlib import Path

import tomllib

_AGAIN, _SYNONYMS, _WORD = 0.5, 0.6, 0.5
_ENGLISH = re.compile(r"[\x00-\x7f’“”‘–—…]*")
_LEAST = 3
"""Times that a meaning has to stand in WordNet's own texts."""
_PLAIN = re.compile(r"(?<![\w./'\"-])[a-z]{4,}(?![\w./'\"(-])")
_DEFINED = re.compile(r"^\s*(-{1,2}[A-Za-z][\w-]*)", re.M)
_OPTION = re.compile(r"(?<![\w-])-{1,2}[A-Za-z][\w-]*")
_POLITE = re.compile(r"(hi|please|quick question|i wonder|can you tell me)[:,] ", re.I)
_FIELD = re.compile(r"\\\{(\w+)\\\}")
_VALUES = {
    "prog": r"[\w.+:-]+",
    "opt": r"--?[A-Za-z]\S*|[\w.-]+",
    "name": r"[\w.]*\w",
    "term": r"\S+(?: \S+){0,4}",
    "do": ".{8,}",
    "in_prog": "(?: (?:in|with|using) [\\w.+:-]+)?",
    "In_prog": "(?:(?:(?:in|with|using) )?[\\w.+:-]+[,:] )?",
}
"""What fills a wording."""


class Synonyms:
    """Words for words.

    Args:
        folder: of WordNet's `index.*` and `data.*`.
        kept: words that stay: those that questions are worded with.
    """

    def __init__(self, folder: Path, kept: frozenset[str]) -> None:
        counts: dict[tuple[str, str], int] = {}
        first: dict[tuple[str, str], str] = {}
        rank: dict[str, int] = {}
        for line in (folder / "cntlist.rev").read_text().split("\n"):
            if line:
                key, number, count = line.split(" ")
                lemma, _, rest = key.partition("%")
                if number == "1":
                    counts[lemma, rest[0]] = int(count)
                rank[lemma] = rank.get(lemma, 0) + int(count)
        members: dict[tuple[str, str], list[str]] = {}
        for part, kind in (("verb", "2"), ("noun", "1"), ("adj", "3"), ("adv", "4")):
            for line in (folder / f"index.{part}").read_text().split("\n"):
                if line and line[0] != " ":
                    lemma, *fields = line.split()
                    # The first of its meanings.
                    first[lemma, kind] = fields[-int(fields[1])]
            for line in (folder / f"data.{part}").read_text().split("\n"):
                if line and line[0] != " ":
                    fields = line.split(" ")
                    words = [
                        re.sub(r"\(\w+\)$", "", fields[4 + 2 * i]).lower() for i in range(int(fields[3], 16))
                    ]
                    members[fields[0], kind] = words
        self._of: dict[str, list[str]] = defaultdict(list)
        self._kept = kept
        for (lemma, kind), meaning in first.items():
            # A word of several kinds is taken as that which it mostly is.
            own = counts.get((lemma, kind), 0)
            if own < _LEAST or any(counts.get((lemma, other), 0) > own for other in "1234") or "_" in lemma:
                continue
            for other in members[meaning, kind]:
                if (
                    other != lemma
                    and first.get((other, kind)) == meaning
                    and counts.get((other, kind), 0) >= _LEAST
                ):
                    self._of[lemma].append(other.replace("_", " "))

    def __len__(self) -> int:
        return len(self._of)

    def of(self, word: str) -> list[str]:
        """Those of a word; of "sets" with its ending."""
        if word in self._kept:
            return []
        if found := self._of.get(word):
            return found
        if word.endswith("s") and not word.endswith("ss") and (found := self._of.get(word[:-1])):
            return [
                f"{one}es" if re.search("(s|x|z|ch|sh)$", one) else f"{one}s"
                for one in found
                if " " not in one
            ]
        return []


def said_with(text: str, synonyms: Synonyms, name: str, rng: random.Random) -> str:
    """A question with some of its words in the place of others."""

    def other(found: re.Match[str]) -> str:
        some = synonyms.of(found[0])
        return rng.choice(some) if some and found[0] not in name and rng.random() < _WORD else found[0]

    return _PLAIN.sub(other, text)


def _longest_first(wordings: list[str]) -> list[str]:
    """Those of most words of their own first."""
    return sorted(wordings, key=lambda one: len(re.sub(r"{\w+}", "", one)), reverse=True)


def _pattern(wording: str) -> re.Pattern[str] | None:
    """What a wording makes; None of one whose values are not known here."""
    if not set(re.findall(r"{(\w+)}", wording)) <= set(_VALUES):
        return None
    escaped = re.escape(wording.rstrip("?"))
    return re.compile(_FIELD.sub(lambda found: f"(?P<{found[1]}>{_VALUES[found[1]]})", escaped), re.I)


class Again:
    """Asks again what was asked.

    Args:
        wordings: those of a language, and others by kind.
    """

    def __init__(self, wordings: dict[str, list[str]], again: dict[str, list[str]]) -> None:
        self._again = again
        self._patterns = {kind: [_pattern(one) for one in _longest_first(wordings[kind])] for kind in again}

    def __call__(self, kind: str, asked: str, prog: str, rng: random.Random) -> str | None:
        """Another wording; None where it is not known what it was made of."""
        asked = _POLITE.sub("", asked).rstrip("? ")
        for pattern in self._patterns.get(kind, ()):
            found = pattern and pattern.fullmatch(asked)
            if not found:
                continue
            values = {key: value for key, value in found.groupdict().items() if key.lower() != "in_prog"}
            values.setdefault("prog", prog)
            fitting = [one for one in self._again[kind] if set(re.findall(r"{(\w+)}", one)) <= set(values)]
            if fitting:
                return rng.choice(fitting).format_map(values)
        return None


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wordnet", type=Path, required=True)
    options = parser.parse_args()
    worded = (Path(__file__).parent / "wordings.toml").read_text(encoding="utf-8")
    rng, synonyms = random.Random(0), Synonyms(options.wordnet, frozenset(re.findall(r"\w+", worded.lower())))
    told = tomllib.loads(worded)
    again = Again(told["en"], told["again"])
    with gzip.open(options.pairs, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    # Passages of a program that define an option, with the line that names it.
    defining: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        text = row["passages"][0]["text"]
        if " > " in text.split("\n", 1)[0] and row["kind"] in ("option", "which_option", "default"):
            for option in set(_DEFINED.findall(text)):
                if len(defining[option]) < 40:
                    defining[option].append((row["source"], text))
    counts = dict.fromkeys(("asked again", "with synonyms", "with another program's option"), 0)
    with gzip.open(options.out, "wt", 1, encoding="utf-8") as out:
        for row in rows:
            passages, asked, kind = row["passages"], row["question"], row["kind"].removeprefix("exchanged_")
            head = passages[0]["text"].split("\n", 1)[0]
            prog = (
                head.split(" ", 1)[0]
                if head.partition(" > ")[0].endswith(" manual")
                else row["source"].split(":")[-1]
            )
            if rng.random() < _AGAIN and (new := again(kind, asked, prog, rng)):
                asked = new if rng.random() < 0.5 else new[:1].upper() + new[1:]
                counts["asked again"] += 1
            if rng.random() < _SYNONYMS and _ENGLISH.fullmatch(asked):
                new = said_with(asked, synonyms, prog, rng)
                counts["with synonyms"] += new != asked
                asked = new
            if kind in ("option", "default") and " > " in head and (named := _OPTION.search(asked)):
                others = [text for source, text in defining.get(named[0], ()) if source != row["source"]]
                if others:
                    # Behind the hardest of the package, as hard.
                    passages.insert(2, {"text": rng.choice(others)})
                    counts["with another program's option"] += 1
            out.write(json.dumps({**row, "question": asked, "passages": passages}, ensure_ascii=False) + "\n")
    print(len(rows), len(synonyms), counts)


if __name__ == "__main__":
    main()
