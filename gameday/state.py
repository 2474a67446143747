"""Builds every path in the state folder; no other module does. One folder is one stack; two folders never share
anything.

stack.env                     platform, drawn ports, secrets and places of the embedded stack (0600)
stack/<component>/            the embedded stack's servers: data, configuration, log
supervisor.sock               the supervisor's socket (0600)
lock  owner.json  hold.json   who holds the stack; a hold on scheduled nights
journal.jsonl                 every act and every undo, fsynced
points/<key>/                 socket and evidence of a job's run that was started with a failpoint
engine/                       gameday's own Docker engine, if one was started: compose/engine.py
prefect/                      what Prefect's client keeps
runs/<run>/                   samples/, evidence.json, result.json, guardian.log, sampler.log, runbook.log, canary.jsonl
canary                        a link to the newest of the canary's files
nights/                       index.html and tests/<test>.html, the site's pages over many nights
nights/<night>/               results.json, junit.xml, report.html, runbooks.diff
outbox/<night>.jsonl          the messages to people, and whether they were delivered; <channel>.lock: who sends now
metrics/                      gameday.prom; board.json, from which it was made
watch.json                    what `gameday watch` knows, and from where it goes on
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from gameday.errors import ConfigError

__all__ = ["GENERAL_RUNBOOKS", "PLATFORM", "ROOT", "RUNBOOKS", "TESTS", "State", "runbook_of"]

PLATFORM = "trades"
"""The default platform."""

GENERAL_RUNBOOKS = "runbooks/any"
"""The folder of the runbooks of general tests in the checkout."""

TESTS, RUNBOOKS = f"flows/{PLATFORM}", f"runbooks/{PLATFORM}"
"""The folders of the failure tests and of their runbooks in the checkout, unless gameday.toml names others."""

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: gameday is always an editable install."""


def runbook_of(folder: str, test: str) -> str:
    """Return the path of a test's runbook, relative to the checkout if it lies there. If `folder`, the platform's, has
    none and the test is a general one, it is the runbook for any platform."""
    own, general = f"{folder}/{test}.md", f"{GENERAL_RUNBOOKS}/{test}.md"
    return general if (ROOT / general).exists() and not (ROOT / own).exists() else own


@dataclass(frozen=True)
class State:
    """The paths of one stack's state folder. Building one creates nothing; `ensure` does."""

    root: Path

    @classmethod
    def default(cls) -> State:
        """Return $GAMEDAY_STATE, else .gameday in the checkout."""
        folder = os.environ.get("GAMEDAY_STATE")
        return cls(Path(folder).resolve()) if folder else cls.of(PLATFORM)

    @classmethod
    def of(cls, platform: str) -> State:
        """Return the state of a platform of this checkout: .gameday for the default platform, else a folder in that."""
        folder = ROOT / ".gameday"
        return cls((folder if platform == PLATFORM else folder / platform).resolve())

    def ensure(self) -> State:
        """Create the folder, private to its owner (0700). Raises as `check` does, and when it can't be made."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"no state folder at {self.root}: {e.strerror}. Remedy: set GAMEDAY_STATE") from e
        return self.check()

    def check(self) -> State:
        """Raise ConfigError when the folder is somebody else's, or others may write in it: whoever can put files there
        decides what gameday starts and kills, and which files it overwrites. A missing folder is fine.

        This holds for root too: the user could not change what root leaves in the folder, and a link of the user's
        there could lead root anywhere.
        """
        try:
            found = self.root.stat()
        except FileNotFoundError:
            return self
        except OSError as e:
            raise ConfigError(
                f"the state folder {self.root} can't be read: {e.strerror}. Remedy: set GAMEDAY_STATE"
            ) from e
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"the state folder {self.root} is no folder. Remedy: set GAMEDAY_STATE")
        owner, mode = _user(found.st_uid), f"{stat.S_IMODE(found.st_mode):04o}"
        if found.st_uid != os.geteuid():
            raise ConfigError(
                f"the state folder {self.root} (mode {mode}) belongs to {owner}, and this is {_user(os.geteuid())}. "
                f"Remedy: run it as {owner}, or set GAMEDAY_STATE to a folder of your own"
            )
        if found.st_mode & OTHERS_WRITE:
            raise ConfigError(
                f"others than its owner {owner} may write in the state folder {self.root} (mode {mode}). Remedy: "
                f"check that nobody did, then chmod go-w {self.root}"
            )
        return self

    @property
    def env(self) -> Path:
        return self.root / "stack.env"

    @property
    def servers(self) -> Path:
        return self.root / "stack"

    @property
    def supervisor_socket(self) -> Path:
        return self.root / "supervisor.sock"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def owner(self) -> Path:
        return self.root / "owner.json"

    @property
    def hold(self) -> Path:
        return self.root / "hold.json"

    @property
    def journal(self) -> Path:
        return self.root / "journal.jsonl"

    @property
    def journal_old(self) -> Path:
        return self.root / "journal.old.jsonl"

    def points(self, key: str) -> Path:
        return self.root / "points" / key

    @property
    def engine(self) -> Path:
        return self.root / "engine"

    @property
    def prefect(self) -> Path:
        return self.root / "prefect"

    @property
    def nights(self) -> Path:
        return self.root / "nights"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics"

    @property
    def textfile(self) -> Path:
        return self.metrics / "gameday.prom"

    @property
    def board(self) -> Path:
        return self.metrics / "board.json"

    @property
    def watch(self) -> Path:
        return self.root / "watch.json"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def run(self, run_id: str) -> Path:
        return self.runs / run_id

    def results(self) -> list[Path]:
        """Return the result.json of every run that left one, oldest first (a run's id starts with its time)."""
        return sorted(self.runs.glob("*/result.json"))

    def guardian_log(self, run_id: str) -> Path:
        return self.run(run_id) / "guardian.log"

    def samples(self, run_id: str) -> Path:
        return self.run(run_id) / "samples"

    def attempts(self, run_id: str) -> Path:
        return self.run(run_id) / "canary.jsonl"

    @property
    def canary(self) -> Path:
        return self.root / "canary"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    def night(self, night: str) -> Path:
        return self.nights / night

    def published(self) -> list[Path]:
        """Return the results.json of every night that is kept, oldest first (a night's id starts with its time)."""
        return sorted(self.nights.glob("*/results.json"))

    @property
    def index(self) -> Path:
        """The site's first page. All links of the site are relative: `nights` can be copied anywhere."""
        return self.nights / "index.html"

    def report(self, night: str) -> Path:
        return self.night(night) / "report.html"

    def history(self, test: str) -> Path:
        return self.nights / "tests" / f"{test}.html"


def _user(uid: int) -> str:
    """Name a user in an error."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (user id {uid})"
    except KeyError:
        return f"user id {uid}"
