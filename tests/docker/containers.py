"""Containers of nothing but the machine's own programs, as a compose file has them: compose.engine.host_image makes
their image, and this checkout runs in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compose.service import Service
from gameday.state import ROOT

__all__ = ["in_container", "service_in_container"]


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
