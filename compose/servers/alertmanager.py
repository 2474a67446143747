"""Runs Alertmanager, which sends firing alerts to a webhook. Loopback only, and without peers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from compose.servers import Report, debian
from compose.service import Service
from gameday.errors import GamedayError

__all__ = ["PACKAGE", "found", "get", "process"]

PACKAGE = "prometheus-alertmanager"
TEMPLATES = Path("/usr/share/prometheus/alertmanager")
NAMES = ("default.tmpl", "email.tmpl")
PROGRAMS = ("prometheus-alertmanager", "alertmanager")


def get(report: Report) -> bool:
    """Whether it can be run here. Debian's program reads TEMPLATES, wherever it is, and only root can put them
    there."""
    if found():
        return True
    if not debian.get(PACKAGE, PROGRAMS[0], report):
        return False
    if os.geteuid() != 0:
        report(f"{PACKAGE}: only root can make {TEMPLATES}, so alerts page nobody. Remedy: apt-get install {PACKAGE}")
        return False
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        shutil.copyfile(debian.home(PACKAGE) / TEMPLATES.relative_to("/") / name, TEMPLATES / name)
    return True


def found() -> bool:
    program = debian.program(PACKAGE, *PROGRAMS)
    ours = program is not None and program.is_relative_to(debian.home(PACKAGE))
    return program is not None and (not ours or all((TEMPLATES / name).exists() for name in NAMES))


def process(folder: Path, port: int, receiver: str) -> Service:
    """Write the configuration. receiver: the URL to which alerts are posted when they fire and when they are over."""
    program = debian.program(PACKAGE, *PROGRAMS)
    if program is None:
        raise GamedayError(f"there is no alertmanager here. Remedy: apt-get install {PACKAGE}")
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "route": {
            "receiver": "pager",
            "group_by": ["alertname", "component"],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "4h",
        },
        "receivers": [{"name": "pager", "webhook_configs": [{"url": receiver, "send_resolved": True}]}],
    }
    (folder / "alertmanager.yml").write_text(json.dumps(config, indent=1))  # JSON is YAML
    local = f"127.0.0.1:{port}"
    argv = [
        *(str(program), f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'data'}"),
        *(f"--web.listen-address={local}", "--cluster.listen-address=", "--log.level=warn"),  # no peers: no port
    ]
    return Service("alertmanager", tuple(argv), str(folder), ready=f"http://{local}/-/ready")
