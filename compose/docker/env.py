"""Draws ports and secrets for the stack in containers: python -m compose.docker.env writes compose/.env from
env.example, and makes the folders that the containers share with gameday.

Compose reads that file by itself, gameday reads its copy in the state folder. The environment tells gameday that folder
and the configuration: set -a; . compose/.env; set +a.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from compose.own import ALERTS_QUICKENED
from compose.ports import free_ports
from compose.servers import prometheus
from compose.supervisor import write_private
from compose.trades.processes import RULES, VENUES
from gameday.errors import GamedayError
from gameday.stack.reading import read_env
from gameday.state import ROOT, State

__all__ = ["EXAMPLE", "draw", "main", "write"]

EXAMPLE = ROOT / "compose" / "env.example"
TARGET = ROOT / "compose" / ".env"
PLAIN = re.compile(r"[A-Za-z0-9._~-]*")
"""The characters that a value may have: Compose writes a password into an address unescaped."""

STATE = ROOT / ".gameday-docker"


def draw(known: Mapping[str, str]) -> dict[str, str]:
    """Return every name of env.example with a value: the known one, else the example's own, else a drawn one."""
    names = read_env(EXAMPLE)
    found = {name: known.get(name) or value for name, value in names.items()}
    state = found["GAMEDAY_STATE"] or str(STATE)
    places = {
        "GAMEDAY_STATE": state,
        "GAMEDAY_CONFIG": str(ROOT / "compose" / "docker" / "gameday.toml"),
        "STACK_FOLDER": f"{state}/stack",
        "GAMEDAY_UID": str(os.getuid()),
        "GAMEDAY_GID": str(os.getgid()),
    }
    ports = [name for name, value in found.items() if name.endswith("_PORT") and not value]
    taken = {int(value) for name, value in found.items() if name.endswith("_PORT") and value}
    drawn = dict(zip(ports, map(str, free_ports(len(ports), besides=taken)), strict=True)) if ports else {}
    drawn |= {n: secrets.token_urlsafe(18) for n, v in found.items() if n.endswith("_PASSWORD") and not v}
    found = {name: value or drawn.get(name) or places.get(name, "") for name, value in found.items()}
    if empty := [name for name, value in found.items() if not value]:
        raise GamedayError(f"{', '.join(empty)} can't be drawn. Remedy: give them a value in {EXAMPLE.name}")
    if wrong := [n for n, v in found.items() if n.endswith("_PASSWORD") and not PLAIN.fullmatch(v)]:
        raise GamedayError(
            f"{', '.join(wrong)} has a character that is special in an address, to Compose or to a shell. Remedy: "
            "only letters, digits, . _ ~ and -; if it is empty, it is drawn"
        )
    return found


def write(path: Path, known: Mapping[str, str] = {}) -> dict[str, str]:
    """Write the file, its copy in the state folder, and the folders. What the file has is kept, unless `known` has the
    name."""
    values = draw({**read_env(path), **known})
    state, stack = State(Path(values["GAMEDAY_STATE"])), Path(values["STACK_FOLDER"])
    mounted = [stack / name for name in ("engine", "prometheus", "exchange", *(f"handler-{venue}" for venue in VENUES))]
    state.ensure()
    for folder in (
        state.points(""),
        state.metrics,
        *mounted,
    ):  # before the engine makes them, as root's
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    rules = prometheus.quickened(RULES.read_text(), ALERTS_QUICKENED)
    (stack / "prometheus" / "rules.yml").write_text(rules)
    for target in {path, state.env}:
        write_private(target, "".join(f"{name}={value}\n" for name, value in values.items()))
    return values


def main() -> int:
    """Write compose/.env, and say how it is used."""
    try:
        write(TARGET)
    except GamedayError as e:
        sys.exit(f"{e}")
    print(f"{TARGET.relative_to(ROOT)} is written. Now: set -a; . compose/.env; set +a")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
