"""Runs a server of the embedded stack in a container, in place of an image that only a registry has.

`python -m compose.docker.serve SERVER [ARGUMENT…]`, with the environment and the arguments of the image. Data are in
DATA. This process becomes the server, so signals reach it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from compose.servers import alertmanager, clickhouse, debian, kafka, postgres, prometheus, seaweedfs, toxiproxy
from compose.service import Service
from compose.trades.processes import BUCKET, VENUES
from gameday.state import ROOT, State

__all__ = ["main", "process"]

DATA = Path("/var/tmp")
"""A folder of the container: every image has it, and every user may write into it."""

ANY = "0.0.0.0"
DIRECT_PORT, MACHINE_PORT, LINK_PORT = 9092, 19092, 9101
"""The broker's ports: for other containers, for gameday on the engine's machine, and the first one behind a link."""

MONITORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "prometheus": (prometheus.PACKAGE, ("prometheus",)),
    "alertmanager": (alertmanager.PACKAGE, alertmanager.PROGRAMS),
}
"""Debian's package, and the names that the program may have."""

INSIDE_PORT = 20_000
"""The first of the ports that only the server itself uses."""


def process(name: str, arguments: Sequence[str], env: Mapping[str, str]) -> Service:
    """Write the server's configuration, return its process."""
    match name:
        case "clickhouse":
            return clickhouse.process(DATA, 8123, env["CLICKHOUSE_PASSWORD"], listen=ANY)
        case "kafka":
            behind = [
                kafka.Listener(who.upper(), LINK_PORT + number, LINK_PORT + number, "toxiproxy.data")
                for number, who in enumerate((*VENUES, "clickhouse"))
            ]
            direct = kafka.Listener("DIRECT", DIRECT_PORT, DIRECT_PORT, "broker.data")
            machine = kafka.Listener("MACHINE", MACHINE_PORT, int(env["KAFKA_DIRECT_PORT"]))
            return kafka.process(DATA, (direct, machine, *behind), INSIDE_PORT, cluster="containers", listen=ANY)
        case "postgres":
            user, password = env["POSTGRES_USER"], env["POSTGRES_PASSWORD"]
            return postgres.process(State(DATA), "postgres", 5432, user, password, listen=ANY)
        case "s3":
            ports = {part: INSIDE_PORT + number for number, part in enumerate(seaweedfs.PARTS)} | {"s3": 9000}
            ports |= {f"{part}.grpc": ports[part] + 10_000 for part in seaweedfs.PARTS}
            return seaweedfs.process(DATA, ports, BUCKET, env["MINIO_ROOT_PASSWORD"], env["OFFLOAD"], listen=ANY)
        case "toxiproxy":
            argv = (str(toxiproxy.BINARY), "-host", ANY, "-port", "8474", "-config", "/links.json")
            return Service("toxiproxy", argv, str(DATA))
        case "prometheus" | "alertmanager":
            package, programs = MONITORS[name]
            program = debian.program(package, *programs)
            if program is None:
                sys.exit(f"there is no {name} here. Remedy: apt-get install {package}")
            return Service(name, (str(program), *arguments), str(DATA))
        case _:
            sys.exit(f"no server {name!r}. Known: clickhouse, kafka, postgres, s3, toxiproxy, {', '.join(MONITORS)}")


def main() -> None:
    """Become the server."""
    server = process(sys.argv[1], sys.argv[2:], os.environ)
    os.chdir(server.cwd or server.folder)
    os.execve(server.argv[0], server.argv, {**os.environ, **server.env, "PYTHONPATH": str(ROOT)})


if __name__ == "__main__":
    main()
