"""What a canary attempts: its templates, and the file in which every attempt and every outcome is written.

A line is written before an attempt is sent, and another when its outcome is known. So whoever reads the file, at any
moment and after any crash, finds each record that may be in the platform; one without an outcome is unknown.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gameday.errors import DriverError
from gameday.model import Outcome, Sent
from gameday.records.declaration import Stream
from gameday.records.types import EPOCH

__all__ = [
    "MOMENT",
    "NAMES",
    "PLACE",
    "Attempt",
    "Book",
    "Reader",
    "filled",
    "misnamed",
    "named",
    "now_us",
    "templates",
    "values",
]

NAMES = ("n", "key", "uuid", "now", "now_ms", "now_s", "group")
"""What a template may name: {n} is the record's number, {key} the prefix, the group and the number, {now} ISO 8601."""

MOMENT = frozenset(("now", "now_ms"))
"""The same time in two forms: an attempt's is of whole milliseconds."""

PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Attempt:
    """One record that is to be written. number: grows by one in each group. at_us: wall clock. outcome None: it is not
    known yet, or never will be."""

    number: int
    group: str
    uuid: str
    at_us: int
    outcome: Outcome | None = None
    why: str = ""


def values(attempt: Attempt, prefix: str) -> Mapping[str, str]:
    """What each of NAMES stands for in this attempt.

    >>> values(Attempt(7, "eu", "3f", 1_500_000), "gameday-")["key"]
    'gameday-eu-7'
    """
    at = EPOCH + timedelta(microseconds=attempt.at_us)
    return {
        "n": str(attempt.number),
        "key": prefix + (f"{attempt.group}-" if attempt.group else "") + str(attempt.number),
        "uuid": attempt.uuid,
        "now": at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "now_ms": str(attempt.at_us // 1000),
        "now_s": str(attempt.at_us // 1_000_000),
        "group": attempt.group,
    }


def filled(template: str, known: Mapping[str, str]) -> str:
    """The template with {n} and the like replaced; other braces, such as JSON's, stay.

    >>> filled('{"id": {n}, "in": {}}', {"n": "7"})
    '{"id": 7, "in": {}}'
    """
    return PLACE.sub(lambda place: known.get(place[1], place[0]), template)


def named(template: str) -> list[str]:
    """The names in braces, each once."""
    return list(dict.fromkeys(PLACE.findall(template)))


def misnamed(template: str) -> list[str]:
    """The names in braces that stand for nothing."""
    return [name for name in named(template) if name not in NAMES]


def templates(stream: Stream, given: Mapping[str, str]) -> Mapping[str, str]:
    """Field -> template: the given ones, and those that go without saying. A field without one is left out."""
    usual = dict.fromkeys(stream.own, "{key}") | ({stream.time: "{now}"} if stream.time else {})
    usual |= {stream.sequence: "{n}"} if stream.counted else {}
    usual |= {stream.group[0]: "{group}"} if len(stream.group) == 1 else {}
    return {name: given.get(name, usual.get(name, "")) for name in stream.types if name in given or name in usual}


class Book:
    """The file of one run, written. One process writes it."""

    def __init__(self, path: Path) -> None:
        """A new file: one that is there already is another run's."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._attempts = 0

    def begin(self, attempt: Attempt) -> int:
        """Write it down; it may be sent once this has returned. Its place in the file, for `end`. From one thread."""
        self._attempts += 1
        self._write(
            {"attempt": self._attempts, "n": attempt.number, "group": attempt.group, "uuid": attempt.uuid}
            | {"at_us": attempt.at_us}
        )
        return self._attempts

    def end(self, place: int, sent: Sent) -> None:
        """Write down how it ended. From any thread."""
        self._write({"of": place, "is": sent.outcome, **({"why": sent.why} if sent.why else {})})

    def _write(self, line: Mapping[str, object]) -> None:
        data = json.dumps(line).encode() + b"\n"
        if os.write(self._fd, data) != len(data):  # a full disk: what was not written down is not sent
            raise OSError("the file of the canary's attempts could not be written whole")


class Reader:
    """The file of one run, read as it grows. A last line that is not ended yet is left for the next reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""
        self._file: tuple[int, int] | None = None
        self.attempts: list[Attempt] = []

    def update(self) -> None:
        """Read what was written since. Another file in the same place, as of the next run, is read from its beginning.
        One that isn't there has no attempts. Raises DriverError on a file that is none."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if (found.st_dev, found.st_ino) != self._file:
                    self._file, self._at, self._rest, self.attempts = (found.st_dev, found.st_ino), 0, b"", []
                file.seek(self._at)
                data = file.read()
        except FileNotFoundError:
            self._file, self.attempts = None, []
            return
        except OSError as e:
            raise DriverError(f"{self._path} can't be read: {e.strerror}", definite=True) from e
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            told = json.loads(line)
            if "attempt" in told:
                if told["attempt"] != len(self.attempts) + 1:
                    raise ValueError(f"attempt {told['attempt']} follows {len(self.attempts)}")
                self.attempts.append(Attempt(told["n"], told["group"], told["uuid"], told["at_us"]))
            else:
                place = told["of"] - 1
                one = self.attempts[place]
                ended = Attempt(
                    one.number, one.group, one.uuid, one.at_us, Outcome(told["is"]), str(told.get("why", ""))
                )
                self.attempts[place] = ended
        except (ValueError, KeyError, TypeError, IndexError) as e:
            raise DriverError(
                f"{self._path} is no file of a canary's attempts: {e}. Remedy: it was changed; delete the run's folder",
                definite=True,
            ) from e


def now_us() -> int:
    """The wall clock."""
    return (datetime.now(UTC) - EPOCH) // timedelta(microseconds=1)
