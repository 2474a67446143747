"""Runs a NATS server from a wheel, with JetStream on disk: loopback, one user with a password, monitoring on a port of
its own.

The pipeline makes the streams.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from compose.servers import LOOPBACK
from compose.service import Service
from gameday.system.address import encoded

__all__ = ["USER", "process", "url"]

USER = "gameday"

STOP_S = 3.0
"""The grace of a stop. It ends within milliseconds; what it has acknowledged is on disk."""

CONFIG = """\
server_name: {name}
listen: "{listen}:{port}"
http: "{local}:{monitoring}"
jetstream {{ store_dir: {folder}, max_memory_store: 64MB, max_file_store: 4GB }}
authorization {{ user: {user}, password: {password} }}
"""
"""sync_interval is the server's default, two minutes: a kill loses nothing that was acknowledged, only a power loss
does."""


def process(folder: Path, port: int, monitoring: int, password: str, name: str, listen: str = LOOPBACK) -> Service:
    """Write the configuration. name: the server's own, which it tells every client. It is ready when JetStream is."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nats.conf"
    config.touch(mode=0o600)
    told = {"name": name, "folder": str(folder / "data"), "user": USER, "password": password}
    quoted = {key: json.dumps(text, ensure_ascii=False) for key, text in told.items()}
    config.write_text(CONFIG.format(**quoted, listen=listen, port=port, local=LOOPBACK, monitoring=monitoring))
    argv = (str(Path(sys.executable).with_name("nats-server")), "--config", str(config))
    ready = f"http://{LOOPBACK}:{monitoring}/healthz"
    return Service("nats", argv, str(folder), ready=ready, grace_s=STOP_S)


def url(port: int, password: str) -> str:
    """Return the URL for its user."""
    return f"nats://{USER}:{encoded(password)}@{LOOPBACK}:{port}"
