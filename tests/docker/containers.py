"""Containers of nothing but the machine's own programs, as a compose file has them: compose.engine.host_image makes
their image, and this checkout runs in them. And a platform of such containers on an engine of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from compose.engine import Engine
from compose.service import Service
from gameday.state import ROOT

__all__ = ["in_container", "on_an_engine", "service_in_container"]


class Stack(Protocol):
    """What runs on an engine."""

    def up(self) -> None:
        """Start it, and return when it serves."""

    def down(self) -> None:
        """Remove all of it."""


S = TypeVar("S", bound=Stack)


@contextmanager
def on_an_engine(kind: Callable[[Engine, Path], S], folder: Path) -> Iterator[S]:
    """The platform, up, in a folder of its own; the engine ends with it."""
    folder.chmod(0o755)
    engine = Engine(folder / "engine")
    engine.up(print)
    try:
        stack = kind(engine, folder / "stack")
        (folder / "stack").mkdir()
        try:
            stack.up()
            yield stack
        finally:
            stack.down()
    finally:
        engine.clean(print)


def in_container(
    image: str, argv: Iterable[str], env: Mapping[str, str], folders: Iterable[Path] = (), ports: Iterable[int] = ()
) -> dict[str, Any]:
    """folders: seen inside under the same name, and written to. ports: published on loopback under the same number."""
    base = Path(sys.base_prefix)
    seen = [Path("/usr"), ROOT, *([] if base.is_relative_to("/usr") else [base])]
    return {
        "image": image,
        "entrypoint": list(argv),
        "environment": {"HOME": "/tmp", "PATH": os.defpath, **env},
        "working_dir": str(ROOT),
        "restart": "unless-stopped",
        "volumes": [*(f"{path}:{path}:ro" for path in seen), *(f"{path}:{path}" for path in folders)],
        "ports": [f"127.0.0.1:{port}:{port}" for port in ports],
    }


def service_in_container(
    image: str, service: Service, folders: Iterable[Path] = (), ports: Iterable[int] = ()
) -> dict[str, Any]:
    """A server of the embedded stack."""
    made = in_container(image, service.argv, service.env, folders, ports)
    made["working_dir"] = service.cwd or service.folder
    if service.user is not None:
        made["user"] = f"{service.user}:{service.user}"
    return made
