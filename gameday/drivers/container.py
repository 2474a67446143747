"""Probes a component that answers no protocol: asks the Docker engine whether its container runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from gameday.errors import ConfigError, DriverError
from gameday.system import address
from gameday.system.http import Kept, Unanswered

__all__ = ["Probe"]

UNIX = "unix://"


@dataclass(frozen=True)
class Probe:
    """container: its name. url: the engine's unix socket. If the image has a health check, it must not fail."""

    container: str
    timeout_s: float
    url: str = "unix:///var/run/docker.sock"

    def __post_init__(self) -> None:
        if not self.url.startswith(UNIX):
            raise ConfigError(f"engine {self.url!r} is no unix socket. Remedy: url = 'unix:///var/run/docker.sock'")

    def read(self) -> Mapping[str, float]:
        """Return {"": 1.0}. Raises DriverError if it is down, paused or unhealthy, or the engine doesn't answer."""
        state = self._inspect()["State"]
        ill = [word for word in ("Paused", "Restarting") if state.get(word)]
        if (state.get("Health") or {}).get("Status") == "unhealthy":
            ill.append("unhealthy")
        if not state["Running"] or ill:
            raise DriverError(f"container {self.container}: {' '.join(ill) or state['Status']}", definite=True)
        return {"": 1.0}

    def _inspect(self) -> Any:
        what = f"the engine at {self.url}, asked for container {self.container},"
        try:
            answer = self._engine.ask("GET", f"/containers/{quote(self.container, safe='')}/json", self.timeout_s)
            body = json.loads(answer.body)
        except (Unanswered, ValueError) as e:
            raise DriverError(f"{what}: {e}", definite=True) from e
        if answer.status != HTTPStatus.OK:
            raise DriverError(f"{what} answered {answer.status}: {str(body.get('message'))[:200]}", definite=True)
        return body

    @cached_property
    def _engine(self) -> Kept:
        return Kept(address.of("http://engine"), unix=self.url.removeprefix(UNIX))
