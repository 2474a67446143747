"""A NATS server from a wheel, with JetStream on disk: loopback, one user with a password, monitoring on
a port of its own.

The streams are the pipeline's.
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
"""It ends within milliseconds; what it has acknowledged is on disk."""

CONFIG = """\
server_name: {name}
listen: "{listen}:{port}"
http: "{local}:{monitoring}"
jetstream {{ store_dir: {folder}, max_memory_store: 64MB, max_file_store: 4GB }}
authorization {{ user: {user}, password: {password} }}
"""
"""sync_interval is the server's own, two minutes: a kill takes nothing that was acknowledged, only a loss of power
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
    """Where its user reaches it."""
    return f"nats://{USER}:{encoded(password)}@{LOOPBACK}:{port}"
