"""A platform as its people have it, in containers that know nothing of gameday; beside it, in a project of its own,
what gameday needs: a Postgres and a Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from compose.engine import Engine, host_image
from compose.servers import postgres, prefect
from compose.service import answers
from gameday.state import ROOT, State
from gameday.system.polling import until
from tests.docker.containers import service_in_container

__all__ = ["EVERYWHERE", "PASSWORD", "PREFECT", "SERVES_WITHIN_S", "Platform"]

PASSWORD = "only-for-tests-of-a-shop"
EVERYWHERE = "0.0.0.0"
OWN, OWN_PORT = "gameday-own", 5499
PREFECT = "http://127.0.0.1:4200"
SERVES_WITHIN_S = 120.0
PREPARED_WITHIN_S = 300.0
GAMEDAY = str(Path(sys.executable).with_name("gameday"))


@dataclass(frozen=True)
class Platform(ABC):
    """engine: one that is up. folder: of this platform, which its containers see under the same name.

    project: the Compose project's name. images: the names that its users' images have; in them are the machine's own
    programs. exported: what a user exports, by what `gameday init` says.
    """

    engine: Engine
    folder: Path

    project: ClassVar[str]
    images: ClassVar[Sequence[str]]
    exported: ClassVar[Mapping[str, str]]

    @abstractmethod
    def services(self) -> Mapping[str, Any]:
        """The services of its compose file. What they need besides is got here."""

    @abstractmethod
    def prepare(self) -> None:
        """What its people have done once, until records arrive; run where the published ports are."""

    @property
    def env(self) -> Mapping[str, str]:
        """What the user exports; and where the engine is."""
        return {
            **self.engine.env,
            **self.exported,
            "GAMEDAY_STATE": str(self.folder / "gameday"),
            "GAMEDAY_PG_PASSWORD": PASSWORD,
            "COLUMNS": "120",
        }

    @property
    def history(self) -> str:
        """Of gameday.toml: where gameday's own database is."""
        return f"postgresql://gameday:${{GAMEDAY_PG_PASSWORD}}@127.0.0.1:{OWN_PORT}/gameday"

    def up(self) -> None:
        """Start everything, and return when records arrive."""
        for name in (*self.images, OWN):
            host_image(self.engine, name)
        self._write("own", self._own())
        self._write(self.project, self.services())
        for name in ("own", self.project):
            self.compose(name, "up", "--detach", "--no-build", "--pull", "never")
        done = self.run(sys.executable, "-m", type(self).__module__, str(self.folder), within_s=PREPARED_WITHIN_S)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    def down(self) -> None:
        """Remove containers and networks, and what root's Postgres keeps elsewhere."""
        try:
            for name in (self.project, "own"):
                self.compose(name, "down", "--timeout", "2")
        finally:
            postgres.remove(State(self.folder))

    def gameday(self, *arguments: str, within_s: float) -> subprocess.CompletedProcess[str]:
        return self.run(GAMEDAY, *arguments, within_s=within_s)

    def run(self, *command: str, within_s: float) -> subprocess.CompletedProcess[str]:
        """Where the published ports are."""
        return subprocess.run(
            self.engine.at(*command),
            cwd=self.folder,
            env={**os.environ, **self.env, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def python(self, code: str, *arguments: str) -> None:
        """A few lines where the published ports are."""
        done = self.run(sys.executable, "-c", code, *arguments, within_s=60)
        assert done.returncode == 0, done.stderr

    def compose(self, name: str, *arguments: str) -> None:
        self.engine.docker("compose", "--file", str(self.folder / f"{name}.json"), *arguments)

    @classmethod
    def main(cls, folder: str) -> None:
        """`prepare`, and gameday's own, in a process that is where the published ports are."""
        server = postgres.url(OWN_PORT, "gameday", PASSWORD, "postgres")
        until(partial(answers, server, 2.0), SERVES_WITHIN_S, 0.5, "gameday's own Postgres")
        for name in ("gameday", "prefect"):
            postgres.create_database(server, name)
        cls(Engine(Path(folder).parent / "engine"), Path(folder)).prepare()
        until(partial(answers, f"{PREFECT}/api/health", 2.0), SERVES_WITHIN_S, 0.5, "gameday's Prefect")

    def _write(self, name: str, services: Mapping[str, Any]) -> None:
        text = json.dumps({"name": name, "services": services}, indent=1)
        (self.folder / f"{name}.json").write_text(text)

    def _own(self) -> Mapping[str, Any]:
        state = State(self.folder).ensure()
        postgres.get(state, print)
        database = postgres.process(state, "gameday-postgres", OWN_PORT, "gameday", PASSWORD)
        url = postgres.url(OWN_PORT, "gameday", PASSWORD, "prefect")
        server = prefect.server(self.folder / "prefect-server", 4200, url, PASSWORD, after=())
        asks_nobody = {name: value for name, value in server.env.items() if "AUTH_STRING" not in name}
        server = replace(server, env=asks_nobody)
        folders = (self.folder, postgres.home(state))
        services = {service.name: service_in_container(OWN, service, folders) for service in (database, server)}
        return {name: {**one, "network_mode": "host"} for name, one in services.items()}
