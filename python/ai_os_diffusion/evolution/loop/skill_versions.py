"""Versions of skills: what takes whose place, in steps that a kill at any moment leaves whole."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ai_os_diffusion.evolution.decision_log import Decision, DecisionLog, now
from ai_os_diffusion.evolution.loop.facts import waiting_facts
from ai_os_diffusion.evolution.loop.feedback import FeedbackQueue
from ai_os_diffusion.evolution.skills import skill_path, versions_folder
from ai_os_diffusion.utils.errors import EvolutionError, ModelNotFoundError, SkillsLockedError
from ai_os_diffusion.utils.files.atomic_file import replacing, sync_path
from ai_os_diffusion.utils.files.file_lock import hold
from ai_os_diffusion.utils.files.regular_file import read_json
from ai_os_diffusion.utils.logger import get_logger

__all__ = ["LESSON", "Change", "SkillVersions"]

_log = get_logger(__name__)

_WORK, _CHANGE, LESSON, _LOCK = ".evolution", "change.json", "lesson.json", "LOCK"
_MOST_BYTES = 1 << 30
_INSTALL, _RESTORE, _RETIRE, _DISCARD = "install", "restore", "retire", "discard"


@dataclass(frozen=True)
class Change:
    """What is done to the files of a skill, and the decision that says why.

    Attributes:
        operation: "install" a candidate, "restore" a version before, "retire" a skill, "discard" a candidate.
        skill: its name.
        version: that is installed, restored or retired; 0 restores that there was none.
        live: the skill's file when this was decided, which nobody is to have replaced since.
        decision: goes to the log when it is done.
    """

    operation: str
    skill: str
    version: int
    live: tuple[int, int] | None
    decision: Decision


class SkillVersions:
    """The skills of a folder with the versions before.

    Earlier versions of a skill are a stack of files that nobody lists. A version that is kept puts the one
    before on it, a rollback takes it from there. Each change is written down before it is made, and finished
    by whoever comes next if it was broken off; no half card has a skill's name, for files are renamed.

    Args:
        folder: of the skills.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / _WORK
        self._decisions = DecisionLog(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that changes skills; what was broken off is finished first.

        Raises:
            SkillsLockedError: another process is.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / _LOCK).open("ab") as file:
            if not hold(file, waits=False):
                raise SkillsLockedError(
                    f"{self.folder}: another process is learning; wait for it, or end it: it goes on later"
                )
            self._recover()
            yield

    @property
    def has_begun(self) -> bool:
        """Whether a learning or a change was broken off."""
        return any((self.work / name).exists() for name in (LESSON, _CHANGE))

    @property
    def has_work(self) -> bool:
        """Whether something waits to be learned, or was begun."""
        return self.has_begun or bool(
            waiting_facts(FeedbackQueue(self.folder).read(), self._decisions.read())
        )

    def earlier(self, name: str) -> list[int]:
        """Numbers of the versions before, ascending."""
        files = versions_folder(name, self.folder).glob("*.parquet")
        return sorted(int(file.stem) for file in files if file.stem.isdecimal())

    def current(self, name: str) -> int:
        """The number of the version in use; 0 where there is none."""
        return self._above(name) if self._live(name).exists() else 0

    def next(self, name: str) -> int:
        """The number that a new version gets."""
        return self._above(name) + self._live(name).exists()

    def latest(self) -> str:
        """The skill that was kept or retired last, of those that can go back.

        Raises:
            ModelNotFoundError: there is none.
        """
        for one in reversed(self._decisions.read()):
            is_skill = one.decision in ("kept", "retired") and skill_path(one.skill, self.folder) is not None
            if is_skill and (self.current(one.skill) or self.earlier(one.skill)):
                return one.skill
        raise ModelNotFoundError("no skill was kept or retired that could go back; aios skills lists them")

    def candidate(self, name: str) -> Path:
        """Where a version lies until it is kept."""
        return self.work / f"{name}.parquet"

    def install(self, name: str, version: int, decision: Decision) -> Decision:
        """Let the candidate be the skill; the version before is put aside."""
        return self._make(_INSTALL, name, version, decision)

    def discard(self, name: str, version: int, decision: Decision) -> Decision:
        """Remove the candidate."""
        return self._make(_DISCARD, name, version, decision)

    def retire(self, name: str, decision: Decision) -> Decision:
        """Put a skill aside."""
        return self._make(_RETIRE, name, self.current(name), decision)

    def rollback(
        self, name: str, reasons: tuple[str, ...] = (), inputs: dict[str, Any] | None = None
    ) -> Decision:
        """Put the version before in the place of a skill; without one, it is gone.

        Raises:
            ModelNotFoundError: there is no skill of that name, nor was there.
        """
        is_name = skill_path(name, self.folder) is not None
        earlier, current = (self.earlier(name), self.current(name)) if is_name else ([], 0)
        if not earlier and not current:
            raise ModelNotFoundError(f"there is no skill {name!r}, nor was there; aios skills lists them")
        target = earlier[-1] if earlier else 0
        decision = Decision(
            name, "rolled back", reasons, {"from": float(current), "to": float(target)}, inputs=inputs or {}
        )
        return self._make(_RESTORE, name, target, decision)

    def _make(self, operation: str, name: str, version: int, decision: Decision) -> Decision:
        inputs = {**decision.inputs, "change": uuid.uuid4().hex}
        row = {**decision.to_dict(), "decided_at": decision.decided_at or now(), "inputs": inputs}
        # As it will be read: the log is asked whether it holds just this.
        decided = Decision.of(json.loads(json.dumps(row)))
        change = Change(operation, name, version, _identity(self._live(name)), decided)
        self.work.mkdir(parents=True, exist_ok=True)
        with replacing(self.work / _CHANGE) as draft:
            draft.write_text(json.dumps(asdict(change)), encoding="ascii")
        self._finish(change)
        return change.decision

    def _recover(self) -> None:
        path = self.work / _CHANGE
        if not path.exists():
            return
        row = read_json(path, _MOST_BYTES, EvolutionError)
        try:
            live = row["live"]
            change = Change(
                str(row["operation"]),
                str(row["skill"]),
                int(row["version"]),
                None if live is None else (int(live[0]), int(live[1])),
                Decision.of(row["decision"]),
            )
            if skill_path(change.skill, self.folder) is None:
                raise ValueError(f"{change.skill!r} is no name of a skill")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise EvolutionError(f"{path}: no change of a skill: {error}; remove it") from error
        _log.warning("%s: %s of version %d is finished", change.skill, change.operation, change.version)
        self._finish(change)

    def _finish(self, change: Change) -> None:
        """Make a change, or what of it is not made yet."""
        live, candidate = self._live(change.skill), self.candidate(change.skill)
        aside = versions_folder(change.skill, self.folder)
        is_unchanged = _identity(live) == change.live
        if change.operation == _INSTALL and candidate.exists():
            if live.exists():
                aside.mkdir(parents=True, exist_ok=True)
                with replacing(aside / f"{change.version - 1}.parquet") as draft:
                    shutil.copyfile(live, draft)
                sync_path(aside.parent)
            _move(candidate, live)
        elif change.operation == _RESTORE and change.version:
            before = aside / f"{change.version}.parquet"
            if before.exists():
                _move(before, live)
        elif change.operation == _RESTORE and is_unchanged and live.exists():
            live.unlink()
            sync_path(self.folder)
        elif change.operation == _RETIRE and is_unchanged and live.exists():
            aside.mkdir(parents=True, exist_ok=True)
            sync_path(aside.parent)
            _move(live, aside / f"{change.version}.parquet")
        elif change.operation == _DISCARD:
            candidate.unlink(missing_ok=True)
        if change.decision not in self._decisions.read():
            self._decisions.append(change.decision)
        if change.operation in (_INSTALL, _DISCARD):
            (self.work / LESSON).unlink(missing_ok=True)
        (self.work / _CHANGE).unlink(missing_ok=True)
        sync_path(self.work)

    def _live(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def _above(self, name: str) -> int:
        return max(self.earlier(name), default=0) + 1


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file keeps that is only renamed."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size


def _move(source: Path, target: Path) -> None:
    source.replace(target)
    for folder in {source.parent, target.parent}:
        sync_path(folder)
