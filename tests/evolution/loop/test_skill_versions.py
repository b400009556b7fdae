"""Versions take each other's place whole, and a change that is broken off anywhere is finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ai_os_diffusion.evolution import Decision, DecisionLog, SkillVersions
from ai_os_diffusion.evolution.loop import skill_versions
from ai_os_diffusion.utils.errors import EvolutionError, ModelNotFoundError

KEPT = Decision("house", "kept", ("it helps",), {"bits": 1.5}, inputs={"feedback": ["a"]})


def candidate(folder: Path, content: str) -> SkillVersions:
    versions = SkillVersions(folder)
    versions.work.mkdir(parents=True, exist_ok=True)
    versions.candidate("house").write_text(content)
    (versions.work / "lesson.json").write_text("{}")
    return versions


def keep(folder, content):
    versions = candidate(folder, content)
    versions.install("house", versions.next("house"), KEPT)
    return versions


def state(folder):
    """What is there: the skill's content, those before it, and what else lies about."""
    live = folder / "house.parquet"
    earlier = sorted((folder / ".versions" / "house").glob("[!.]*"))
    # Drafts of a process that is gone are removed by the next one.
    work = sorted(path.name for path in (folder / ".evolution").glob("[!.]*") if path.name != "LOCK")
    return (
        live.read_text() if live.exists() else None,
        [(path.stem, path.read_text()) for path in earlier],
        work,
        [one.decision for one in DecisionLog(folder).read()],
    )


def test_versions_are_put_aside_and_come_back(tmp_path):
    for content in ("one", "two", "three"):
        versions = keep(tmp_path, content)
    assert state(tmp_path) == ("three", [("1", "one"), ("2", "two")], [], ["kept"] * 3)
    assert (versions.current("house"), versions.next("house"), versions.earlier("house")) == (3, 4, [1, 2])
    figures = versions.rollback("house", ("worse",)).figures
    assert figures == {"from": 3, "to": 2}
    assert state(tmp_path)[:2] == ("two", [("1", "one")])
    versions.retire("house", Decision("house", "retired"))
    assert state(tmp_path)[:2] == (None, [("1", "one"), ("2", "two")])
    assert (versions.current("house"), versions.next("house")) == (0, 3)
    for left in ("two", "one", None):
        versions.rollback("house")
        assert state(tmp_path)[0] == left
    with pytest.raises(ModelNotFoundError, match="there is no skill 'house', nor was there"):
        versions.rollback("house")
    for name in ("../house", "", "none"):
        with pytest.raises(ModelNotFoundError):
            versions.rollback(name)


def test_the_log_holds_what_was_decided(tmp_path):
    keep(tmp_path, "one")
    (logged,) = DecisionLog(tmp_path).read()
    assert (logged.skill, logged.reasons, logged.figures) == ("house", ("it helps",), {"bits": 1.5})
    assert logged.inputs["feedback"] == ["a"]


class Killed(BaseException):
    """The process ends here."""


CHANGES = {
    "install": lambda versions: versions.install("house", 2, KEPT),
    "discard": lambda versions: versions.discard("house", 2, Decision("house", "rejected")),
    "rollback": lambda versions: versions.rollback("house"),
    "retire": lambda versions: versions.retire("house", Decision("house", "retired")),
}


@pytest.mark.parametrize("has_version_before", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_was_broken_off_anywhere_is_finished(tmp_path, monkeypatch, change, has_version_before):
    def begun(folder):
        if has_version_before:
            keep(folder, "zero")
        keep(folder, "one")
        return candidate(folder, "two")

    def dies_at(number, patch):
        """Before the call of that number which changes something on the disk."""
        left = number

        def counted(call):
            def called(*args, **options):
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed
                return call(*args, **options)

            return called

        for name in ("replace", "unlink", "rename", "mkdir"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        patch.setattr(skill_versions.shutil, "copyfile", counted(skill_versions.shutil.copyfile))
        patch.setattr(DecisionLog, "append", counted(DecisionLog.append))

    whole = begun(tmp_path / "whole")
    before = state(tmp_path / "whole")
    CHANGES[change](whole)
    after = state(tmp_path / "whole")
    assert before != after
    deaths = 0
    for number in range(100):
        folder = tmp_path / str(number)
        versions = begun(folder)
        with monkeypatch.context() as patch:
            dies_at(number, patch)
            try:
                CHANGES[change](versions)
                break
            except Killed:
                deaths += 1
        assert state(folder)[0] in (before[0], after[0]), "one or the other, at every moment"
        is_begun = (versions.work / "change.json").exists()
        with versions.locked():
            pass
        found = state(folder)
        assert found == (after if is_begun else before), number
    assert deaths >= 4
    assert state(folder) == after


@pytest.mark.parametrize("damaged", ["{", "[]", '{"operation": "install"}', "null"])
def test_a_damaged_change_is_named(tmp_path, damaged):
    versions = keep(tmp_path, "one")
    (versions.work / "change.json").write_text(damaged)
    with pytest.raises(EvolutionError, match=r"change\.json"), versions.locked():
        pass


def test_a_change_names_no_file_elsewhere(tmp_path):
    versions = keep(tmp_path, "one")
    row = {"operation": "retire", "skill": "../x", "version": 1, "live": None}
    decision = DecisionLog(tmp_path).read()[0].to_dict()
    (versions.work / "change.json").write_text(json.dumps({**row, "decision": decision}))
    with pytest.raises(EvolutionError, match="no name of a skill"), versions.locked():
        pass
