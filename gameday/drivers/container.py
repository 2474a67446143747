"""A component that answers no protocol of its own, asked for at the Docker engine: its container runs."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gameday.errors import ConfigError, DriverError
from gameday.unix import reachable

__all__ = ["Probe"]

UNIX = "unix://"


@dataclass(frozen=True)
class Probe:
    """container: its name. url: of the engine, a unix socket. Where the image has a health check, it must not fail."""

    container: str
    timeout_s: float
    url: str = "unix:///var/run/docker.sock"

    def __post_init__(self) -> None:
        if not self.url.startswith(UNIX):
            raise ConfigError(f"engine {self.url!r} is no unix socket. Remedy: url = 'unix:///var/run/docker.sock'")

    def read(self) -> Mapping[str, float]:
        """{"": 1.0}. Raises DriverError when it doesn't run, is paused or unhealthy, or the engine doesn't answer."""
        state = self._inspect()["State"]
        ill = [word for word in ("Paused", "Restarting") if state.get(word)]
        if (state.get("Health") or {}).get("Status") == "unhealthy":
            ill.append("unhealthy")
        if not state["Running"] or ill:
            raise DriverError(f"container {self.container}: {' '.join(ill) or state['Status']}", definite=True)
        return {"": 1.0}

    def _inspect(self) -> Any:
        what = f"the engine at {self.url}, asked for container {self.container},"
        connection = http.client.HTTPConnection("engine", timeout=self.timeout_s)
        try:
            with reachable(self.url.removeprefix(UNIX)) as path:
                connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.sock.settimeout(self.timeout_s)
                connection.sock.connect(path)
            connection.request("GET", f"/containers/{quote(self.container, safe='')}/json")
            answer = connection.getresponse()
            body = json.loads(answer.read())
            if answer.status != http.client.OK:
                raise DriverError(f"{what} answered {answer.status}: {str(body.get('message'))[:200]}", definite=True)
            return body
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise DriverError(f"{what}: {e or type(e).__name__}", definite=True) from e
        finally:
            connection.close()
