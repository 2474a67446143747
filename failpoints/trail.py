"""Records firings outside the process: a line of evidence before the action, and claims for [global] terms."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Trail", "count"]


@dataclass(frozen=True)
class Trail:
    """evidence: an open descriptor (O_APPEND); None: no evidence. claims: a folder shared by all processes that count
    together. run: whose fault this is, if the arming doesn't say. seed: the seed of the points' generators.
    """

    evidence: int | None = None
    claims: Path | None = None
    run: str = ""
    seed: str = "0"

    @classmethod
    def at(cls, evidence: str, claims: str, run: str, seed: str) -> Trail:
        """Open the file, make the folder ("": none). Raises OSError now, not at a firing, if one can't be used."""
        descriptor = None
        if evidence:
            descriptor = os.open(evidence, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if claims:
            Path(claims).mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(descriptor, Path(claims) if claims else None, run, seed or "0")

    def write(self, point: str, hit: int, fired: int, action: str, run: str) -> None:
        """Append one firing, in one write, so that lines of several processes don't mix. Raises OSError if the line is
        not complete."""
        if self.evidence is None:
            return
        line = json.dumps(
            {
                "point": point,
                "hit": hit,
                "fired": fired,
                "at_us": time.time_ns() // 1000,
                "pid": os.getpid(),
                "action": action,
                "run": run or self.run,
            },
            separators=(",", ":"),
        )
        if os.write(self.evidence, line.encode() + b"\n") <= len(line.encode()):
            raise OSError("no room for the whole line")

    def claim(self, what: str, times: int, run: str) -> bool:
        """Take one of `times` claims on this, which all processes share that use the folder; False: all are taken.

        Another run has claims of its own. Raises OSError if the folder can't be used.
        """
        assert self.claims is not None
        digest = hashlib.sha256(f"{run or self.run}\0{what}".encode()).hexdigest()[:24]
        for number in range(1, times + 1):
            try:
                made = os.open(self.claims / f"{digest}.{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue
            os.write(made, f"{os.getpid()} {what}\n".encode())
            os.close(made)
            return True
        return False


def count(evidence: Path, point: str) -> int:
    """Count a point's firings by all processes that wrote to this file. 0: there is no file."""
    try:
        lines = evidence.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return 0
    return sum(json.loads(line)["point"] == point for line in lines)
