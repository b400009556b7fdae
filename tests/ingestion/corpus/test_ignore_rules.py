import random
import shutil
import subprocess

import pytest

from ai_os_diffusion.ingestion import Found, Skipped, walk
from ai_os_diffusion.ingestion.corpus.glob import Glob
from ai_os_diffusion.ingestion.corpus.ignore_rules import IgnoreRules

NAMES = ("a", "b", "c.txt", "ab", "a b", "!a", "#x", "é", "#", "d.txt", "a ", "]")
PATTERNS = (
    *(
        "a",
        "b",
        "*",
        "?",
        "**",
        "a*",
        "*b",
        "[ab]",
        "[!a]",
        "c.txt",
        "*.txt",
        "a b",
        "\\!a",
        "\\#",
        "#x",
        "é",
    ),
    *("[]a]", "[a", "a\\", "[[:alpha:]]", "[^[:digit:]x]", "***", "a**b", "[a-c]", "[!-a]", "[\\]a]", "é*"),
    *("[é]", "??", "a/", "[[:foo:]]", "[a/b]", "*a*b*", "[b-]", "[\\a-c]", "\\[a", "a\\/b", "[]]"),
)


def made(folder, chance, depth=0):
    """A folder of random files, folders and rules."""
    for name in chance.sample(NAMES, chance.randint(2, 6)):
        if depth < 3 and chance.random() < 0.5:
            (folder / name).mkdir()
            made(folder / name, chance, depth + 1)
        else:
            (folder / name).write_text("x")
    if chance.random() < (0.4 if depth else 0.9):
        rules = "\n".join(a_rule(chance) for _ in range(chance.randint(1, 5)))
        (folder / ".gitignore").write_text(rules + "\n", newline=chance.choice(("\n", "\r\n")))


def a_rule(chance):
    names = "/".join(chance.choice(PATTERNS) for _ in range(chance.randint(1, 3)))
    before = chance.choice(("", "", "", "/", "!", "!", "!/"))
    return before + names + chance.choice(("", "", "", "/", "/", " ", "\\ ", " \\ "))


def taken(folder, rules, above=""):
    for path in sorted(folder.iterdir()):
        if path.name != ".git" and not rules.why_not(path.name, is_folder=path.is_dir()):
            if path.is_dir():
                yield from taken(path, rules.within(path), f"{above}{path.name}/")
            else:
                yield f"{above}{path.name}"


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")
@pytest.mark.parametrize("seed", range(40))
def test_the_files_that_git_would_take(tmp_path, seed):
    def git(*arguments):
        return subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True).stdout

    git("init", "-q")
    made(tmp_path, random.Random(seed))
    (tmp_path / ".git" / "info" / "exclude").write_text("d.txt\n")
    listed = git("-c", "core.excludesFile=", "ls-files", "-z", "-o", "--exclude-standard").decode()
    assert sorted(taken(tmp_path, IgnoreRules.of(tmp_path))) == sorted(filter(None, listed.split("\0")))


def test_rules_come_from_above_up_to_the_root_of_the_repository(tmp_path):
    (tmp_path / ".gitignore").write_text("*.md\n")
    inner = tmp_path / "repository" / "docs"
    inner.mkdir(parents=True)
    (tmp_path / "repository" / ".git").write_text("gitdir: elsewhere\n")
    (tmp_path / "repository" / ".gitignore").write_text("/docs/*.txt\n!keep.txt\n")
    for name in ("a.md", "b.txt", "keep.txt"):
        (inner / name).write_text("x")
    found = [item.path.name for item in walk([inner]) if isinstance(item, Found)]
    assert found == ["a.md", "keep.txt"]
    found = [item.path.name for item in walk([tmp_path]) if isinstance(item, Found)]
    assert found == ["a.md", "keep.txt"]


def test_a_file_named_directly_is_taken(tmp_path):
    (tmp_path / ".gitignore").write_text("*\n")
    (tmp_path / "a.txt").write_text("x")
    assert [type(item) for item in walk([tmp_path / "a.txt"])] == [Found]
    assert {type(item) for item in walk([tmp_path])} == {Skipped}


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"a\n" * 600_000)])
def test_rules_that_cannot_be_read_are_told_of(tmp_path, make):
    make(tmp_path / ".gitignore")
    (tmp_path / "a.txt").write_text("x")
    items = list(walk([tmp_path]))
    assert [item.path.name for item in items if isinstance(item, Found)] == ["a.txt"]
    told = [item for item in items if isinstance(item, Skipped) and item.kind == "other"]
    assert len(told) == 1
    assert told[0].reason.startswith("its rules are not followed: ")


def test_a_hostile_pattern_costs_little():
    """A regular expression would try every way to share the letters among the stars."""
    assert not Glob(b"*a" * 60 + b"b").matches_name(b"a" * 250)
    assert not Glob(b"**/a/" * 40 + b"b").matches_path([b"a"] * 1500)
    assert Glob(b"*a" * 60).matches_name(b"a" * 250)


def test_any_bytes_are_rules(tmp_path):
    (tmp_path / ".gitignore").write_bytes(b"\xff\xfe[\\\n!\n/\n//\n#\n   \n\\\n[\x00-\xff]x\n")
    for name in ("x", "yx"):
        (tmp_path / name).write_text("x")
    assert [item.path.name for item in walk([tmp_path]) if isinstance(item, Found)] == ["x"]
