"""Programs that only Debian packages have: the machine's own where it has them, else the package's, unpacked in SHARE.

No root is needed, nothing is installed and no service is started. Where there is neither, `program` is None.
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
    """Where the first of these programs is; None: nowhere."""
    found = (shutil.which(name) or shutil.which(name, path=str(home(package) / "usr" / "bin")) for name in names)
    return next((Path(path) for path in found if path), None)


def get(package: str, name: str, report: Report) -> bool:
    """Have the package's program; False, and why in the report, where it can't be had."""
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
    """apt checks signature and hash. Its own lists may be missing or old: then it gets new ones, in this folder."""
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
    """Where the package is unpacked, with the folders of its own."""
    return SHARE / package
