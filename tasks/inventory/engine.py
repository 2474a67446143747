"""A Docker engine's containers of one Compose project. An answer of another shape raises as Python does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from gameday.errors import ConfigError, DriverError
from gameday.stack.init.seen import Container, Engine
from gameday.system import address
from gameday.system.http import Kept, Unanswered

__all__ = ["engine"]

ASK_WITHIN_S = 5.0
CONTAINERS_MAX = 200

UNIX = "unix://"
PROJECT, SERVICE, ONE_OFF = (f"com.docker.compose.{key}" for key in ("project", "service", "oneoff"))
OPT_IN = "gameday.opt-in"


def engine(url: str, project: str) -> Engine:
    """project: "": the only one that runs there. Raises DriverError where the engine doesn't answer, ConfigError where
    it isn't clear which project is meant."""
    if not url.startswith(UNIX):
        raise ConfigError(f"engine {url!r} is no unix socket. Remedy: DOCKER_HOST=unix:///var/run/docker.sock")
    kept = Kept(address.of("http://engine"), unix=url.removeprefix(UNIX))
    wanted = json.dumps({"label": [f"{PROJECT}={project}" if project else PROJECT]})
    listed = _ask(kept, url, f"/containers/json?all=1&filters={quote(wanted)}")
    projects = sorted({one["Labels"][PROJECT] for one in listed})
    if len(projects) != 1:
        known = ", ".join(projects) or "none"
        raise ConfigError(
            f"the engine at {url} has no containers of project {project!r}. Remedy: --project NAME, as `docker compose "
            "ls` has it"
            if project
            else f"the engine at {url} has these Compose projects: {known}. Remedy: --project NAME"
        )
    there = [one for one in listed if one["Labels"].get(ONE_OFF) != "True"][:CONTAINERS_MAX]
    found = [_container(_ask(kept, url, f"/containers/{one['Id']}/json")) for one in there]
    return Engine(url, projects[0], sorted(found, key=lambda one: (one.service, one.name)))


def _ask(kept: Kept, url: str, path: str) -> Any:
    try:
        answer = kept.ask("GET", path, ASK_WITHIN_S)
        body = json.loads(answer.body)
    except Unanswered as e:
        raise DriverError(
            f"the Docker engine at {url}: {e}. Remedy: start it, or run as a user of its socket", definite=True
        ) from e
    if answer.status != HTTPStatus.OK:
        raise DriverError(f"the Docker engine at {url} answered {answer.status}: {body.get('message')}", definite=True)
    return body


def _container(found: Mapping[str, Any]) -> Container:
    labels = found["Config"]["Labels"] or {}
    bound = (found["NetworkSettings"].get("Ports") or {}).items()
    published = {_port(inside): f"{_here(at[0]['HostIp'])}:{at[0]['HostPort']}" for inside, at in bound if at}
    networks = found["NetworkSettings"].get("Networks") or {}
    return Container(
        service=labels.get(SERVICE, found["Name"].lstrip("/")),
        name=found["Name"].lstrip("/"),
        image=found["Config"]["Image"],
        runs=bool(found["State"]["Running"]),
        restart=found["HostConfig"]["RestartPolicy"]["Name"] or "no",
        networks={name: one.get("IPAddress") or "" for name, one in networks.items()},
        published=published,
        exposed=[_port(inside) for inside in found["Config"].get("ExposedPorts") or {}],
        opted_in=labels.get(OPT_IN) == "true",
    )


def _port(inside: str) -> int:
    return int(inside.partition("/")[0])


def _here(ip: str) -> str:
    """Where a port that is bound to every address is reached from here."""
    return "127.0.0.1" if ip in ("", "0.0.0.0", "::") else ip
