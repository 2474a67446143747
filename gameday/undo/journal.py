"""Writes down every act and every undo, durably. gameday does no act whose record isn't on disk. mending.py reads it.

state.journal holds one JSON object a line. Every record has "rec" and "id" (of the act); times are CLOCK_MONOTONIC:
  act     the fields of model.Act up to "by"; owner, guardian {pid, start_ticks, boot_id}; until_ns by CLOCK_BOOTTIME
  done    at_ns                 the act returned
  proof   proof                 the proof that it took effect ("bit" in journals of earlier versions)
  undone  at_ns, by, why        it was undone, and what it struck does not serve yet
  healed  at_ns, by, why        it was undone at at_ns, and what it struck serves; by: the run's id when the run's own
                                guardian undid it, else the name of what did
A last line without its newline was never acknowledged: readers ignore it, and the next write cuts it off.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gameday.errors import GamedayError
from gameday.model import Act, Json
from gameday.system.polling import until
from gameday.system.process import Process, boot_id, boot_ns

__all__ = ["Entry", "Journal"]

LOCK_WITHIN_S = 2.0
"""How long a writer waits for the folder's lock. Others hold it for one fsync; longer means that one is frozen."""

ROTATE_BYTES = 1 << 20
"""About 2,000 acts. Reading a larger journal would take more than 10 ms."""

NOTED = ("id", "run", "at_ns", "at_us", "kind", "fault", "args", "before", "by")
"""The fields of model.Act that are known before the act."""


@dataclass(frozen=True)
class Entry:
    """One act, and what decides which process may mend it. until_ns: the end of its time to live, by CLOCK_BOOTTIME."""

    act: Act
    owner: Process
    guardian: Process
    until_ns: int

    @property
    def open(self) -> bool:
        return self.act.healed_ns is None

    @property
    def expired(self) -> bool:
        return self.owner.boot_id != boot_id() or boot_ns() > self.until_ns


class Journal:
    """The journal of one stack. Making one creates nothing; every method reads or writes the file anew."""

    def __init__(self, path: Path) -> None:
        self._path = path

    # ---- writing -------------------------------------------------------------------------------------------

    def begin(self, entry: Entry) -> None:
        """Note an act before it is done. Raises GamedayError when the record isn't durable: the act must not follow."""
        noted = {k: v for k, v in asdict(entry.act).items() if k in NOTED}
        processes = {"owner": entry.owner.json(), "guardian": entry.guardian.json(), "until_ns": entry.until_ns}
        self._append({"rec": "act", **noted, **processes})

    def done(self, act_id: str, at_ns: int) -> None:
        self._append({"rec": "done", "id": act_id, "at_ns": at_ns})

    def proved(self, act_id: str, proof: str) -> None:
        self._append({"rec": "proof", "id": act_id, "proof": proof})

    def undone(self, act_id: str, at_ns: int, by: str, why: str) -> None:
        self._append({"rec": "undone", "id": act_id, "at_ns": at_ns, "by": by, "why": why})

    def healed(self, act_id: str, at_ns: int, by: str, why: str) -> None:
        self._append({"rec": "healed", "id": act_id, "at_ns": at_ns, "by": by, "why": why})

    def rotate(self, aside: Path) -> bool:
        """Move a large journal aside, unless an act is open. Says whether it did. Only the stack's holder may call it.

        One old journal is kept.
        """
        try:
            if self._path.stat().st_size < ROTATE_BYTES:
                return False
        except FileNotFoundError:
            return False
        with self._locked() as folder:
            if any(e.open for e in self.entries()) or self.damaged():
                return False
            os.replace(self._path, aside)
            os.fsync(folder)
        return True

    # ---- reading -------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """Every act since the last rotation, oldest first."""
        by_act: dict[str, Entry] = {}
        for _, record in self._records():
            if record is not None:
                _apply(record, by_act)
        return list(by_act.values())

    def open_entries(self) -> list[Entry]:
        """The acts that are not healed yet, oldest first."""
        return [e for e in self.entries() if e.open]

    def open_acts(self) -> list[Act]:
        """The same, without their processes."""
        return [e.act for e in self.open_entries()]

    def acts(self, run: str) -> tuple[Act, ...]:
        """One run's acts, oldest first."""
        return tuple(e.act for e in self.entries() if e.act.run == run)

    def damaged(self) -> list[int]:
        """The numbers of the lines that can't be read. Each may have held an open act."""
        return [number for number, record in self._records() if record is None]

    # ---- the file ------------------------------------------------------------------------------------------

    def _records(self) -> Iterator[tuple[int, Mapping[str, Json] | None]]:
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as e:
            raise GamedayError(
                f"the journal {self._path} can't be read: {e.strerror}. Only the journal knows what is still broken. "
                f"Remedy: check its owner and mode"
            ) from e
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            yield number, _parse(line)

    def _append(self, record: Mapping[str, Json]) -> None:
        """Write one record, durably. When the disk fills up in the middle, nothing of it stays."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        try:
            with self._locked() as folder:
                file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    size = _whole(file)
                    try:
                        if os.write(file, line) != len(line):
                            raise OSError(None, "no room for the whole record")
                        os.fsync(file)
                        if size == 0:
                            os.fsync(folder)
                    except OSError:
                        with suppress(OSError):  # a torn line is ignored anyway; the first error is the one to tell
                            os.ftruncate(file, size)
                        raise
                finally:
                    os.close(file)
        except OSError as e:
            raise GamedayError(
                f"the journal {self._path} can't be written: {e.strerror}. Nothing is injected without it. "
                f"Remedy: make room, and check that the state folder is writable"
            ) from e

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the folder's lock: one writer at a time, and none while it rotates. Yields its descriptor, for fsync."""
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            until(lambda: _locks(folder), LOCK_WITHIN_S, every_s=0.002, what=f"the lock of {self._path.parent}")
            yield folder
        finally:
            os.close(folder)


def _apply(record: Mapping[str, Json], by_act: dict[str, Entry]) -> None:
    """Add one record to the entries, in place. The first "healed" counts; a record of an unknown act is ignored.

    One process may undo an act, and another see later that it serves. by and why then stay those of the undo.
    """
    if record["rec"] == "act":
        act = Act(**{name: record[name] for name in NOTED})
        owner, guardian = Process.parse(record["owner"]), Process.parse(record["guardian"])
        by_act[act.id] = Entry(act, owner, guardian, int(record["until_ns"]))
    elif (entry := by_act.get(record["id"])) is not None:
        act = entry.act
        match record["rec"]:
            case "done":
                act = replace(act, done_ns=record["at_ns"])
            case "proof" | "bit":
                act = replace(act, proof=record["proof"])
            case "undone" if act.undone_ns is None:
                by, why = record.get("by"), record.get("why")
                act = replace(act, undone_ns=record["at_ns"], healed_by=by, healed_why=why)
            case "healed" if act.healed_ns is None:
                known = act.healed_by is not None and act.undone_ns == record["at_ns"]
                by, why = (act.healed_by, act.healed_why) if known else (record["by"], record["why"])
                act = replace(act, healed_ns=record["at_ns"], healed_by=by, healed_why=why)
        by_act[act.id] = replace(entry, act=act)


def _parse(line: bytes) -> Mapping[str, Json] | None:
    """Read one line as a record that _apply can take. None when the line is damaged."""
    try:
        record = json.loads(line)
        _apply(record, {record["id"]: _SPECIMEN})
    except (ValueError, KeyError, TypeError):
        return None
    return record


_NOBODY = Process(0, 0, "")
_SPECIMEN = Entry(Act("", "", 0, 0, "", "", {}, None, ""), _NOBODY, _NOBODY, 0)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _whole(file: int) -> int:
    """Cut off a torn last line. Returns the size that is left, in bytes."""
    size = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return size
    whole = Path(f"/proc/self/fd/{file}").read_bytes().rfind(b"\n") + 1
    os.ftruncate(file, whole)
    return whole
