"""Finds programs that only Debian packages have: the machine's own, else the package's, unpacked in SHARE.

This needs no root, installs nothing and starts no service. Without either, `program` is None.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from compose.servers import SHARE, Report, shared

__all__ = ["get", "home", "program"]

FETCH_TIMEOUT_S = 120.0


def program(package: str, *names: str) -> Path | None:
    """Return the path of the first of these programs that exists; None: none does."""
    found = (shutil.which(name) or shutil.which(name, path=str(home(package) / "usr" / "bin")) for name in names)
    return next((Path(path) for path in found if path), None)


def get(package: str, name: str, report: Report) -> bool:
    """Fetch the package's program, unless it is there. False: it can't be had; the report has the reason."""
    if program(package, name) is not None:
        return True
    with shared():
        return program(package, name) is not None or _got(package, name, report)


def _got(package: str, name: str, report: Report) -> bool:
    report(f"{package}: fetching its Debian package, once")
    with tempfile.TemporaryDirectory(dir=SHARE) as folder:
        try:
            _fetch(package, Path(folder))
        except (OSError, subprocess.SubprocessError) as e:
            told = (getattr(e, "stderr", None) or "").strip().splitlines()
            why = told[-1] if told else str(e)
            report(f"{package} can't be had here, and the stack does without: {why}. Remedy: apt-get install {package}")
            return False
        shutil.rmtree(home(package), ignore_errors=True)
        (Path(folder) / "root").rename(home(package))
    return program(package, name) is not None


def _fetch(package: str, folder: Path) -> None:
    """Fetch the package; apt checks signature and hash. If apt's own lists are missing or old, get new ones here."""
    (folder / "lists" / "partial").mkdir(parents=True)
    own = ("-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder}")
    try:
        _run(folder, "apt-get", "download", package)
    except subprocess.CalledProcessError:
        _run(folder, "apt-get", *own, "update")
        _run(folder, "apt-get", *own, "download", package)
    _run(folder, "dpkg-deb", "--extract", str(next(folder.glob("*.deb"))), str(folder / "root"))


def _run(folder: Path, *argv: str) -> None:
    environment = {**os.environ, "LC_ALL": "C"}
    subprocess.run(
        argv, cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S
    )


def home(package: str) -> Path:
    """Return the folder in which the package is unpacked."""
    return SHARE / package
