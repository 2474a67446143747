"""Fetches jars from a Maven repository, as a lock file lists them: path, sha256, size, one per line."""

from __future__ import annotations

import hashlib
import os
import urllib.request
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from compose.servers import Report
from gameday.errors import GamedayError

__all__ = ["Jars"]

DOWNLOADS = 8
DOWNLOAD_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Jars:
    """name: their name in messages. lock: the lock file. folder: where the jars are."""

    name: str
    lock: Path
    folder: Path

    @property
    def paths(self) -> list[Path]:
        """Return the jars in the lock's order: class archives are valid for exactly this class path."""
        return [self.folder / Path(line.split()[0]).name for line in self.lock.read_text().splitlines()]

    def fetch(self, report: Report) -> None:
        """Get the jars that are missing or damaged; raises GamedayError unless all are as the lock says."""
        wanted = []
        for line, jar in zip(self.lock.read_text().splitlines(), self.paths, strict=True):
            path, sha256, size = line.split()
            if not (jar.exists() and jar.stat().st_size == int(size) and _sha256(jar.read_bytes()) == sha256):
                wanted.append((path, sha256, int(size), jar))
        if not wanted:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        base, total, done = _repository(), sum(w[2] for w in wanted), 0
        report(f"{self.name}: fetching {len(wanted)} jars, {total / 1e6:.0f} MB")
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            futures = [pool.submit(_fetch_one, base, *w) for w in wanted]
            try:
                shown = 0
                for future in as_completed(futures):
                    done += future.result()
                    if done * 10 // total > shown:
                        shown = done * 10 // total
                        report(f"{self.name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB ({done * 100 // total} %)")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _fetch_one(base: str, path: str, sha256: str, size: int, jar: Path) -> int:
    """Copy it from the local Maven repository, else from `base`; only the right bytes appear at `jar`."""
    local = Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository") / path
    if local.is_file():
        content = local.read_bytes()
        if _sha256(content) == sha256:
            return _put(jar, content)
    try:
        with urllib.request.urlopen(f"{base}/{path}", timeout=DOWNLOAD_TIMEOUT_S) as answer:
            content = answer.read()
    except OSError as e:
        raise GamedayError(
            f"{Path(path).name} can't be had from {base}: {e}. Remedy: mend the network or the mirror in "
            "~/.m2/settings.xml and repeat; what was fetched is kept"
        ) from e
    if _sha256(content) != sha256:
        raise GamedayError(
            f"{path} from {base} has sha256 {_sha256(content)} ({len(content)} bytes), not {sha256} ({size} bytes). "
            "Remedy: repeat; if it stays, the mirror serves something else"
        )
    return _put(jar, content)


def _put(path: Path, content: bytes) -> int:
    part = path.with_suffix(f".part{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
    return len(content)


def _repository() -> str:
    """Return the mirror in Maven's own settings, else the repository that the package jgo knows."""
    for settings in (Path.home() / ".m2" / "settings.xml", Path("/etc/maven/settings.xml")):
        if not settings.is_file():
            continue
        for mirror in (e for e in ET.parse(settings).getroot().iter() if e.tag.rpartition("}")[2] == "mirror"):
            values = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in mirror}
            covered = {name.strip() for name in values.get("mirrorOf", "").split(",")}
            if covered & {"*", "central", "external:*"} and values.get("blocked") != "true" and "url" in values:
                return values["url"].rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL

    return str(MAVEN_CENTRAL_URL).rstrip("/")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
