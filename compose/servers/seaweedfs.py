"""Runs SeaweedFS from a wheel: S3 on loopback, one process. Its buckets exist from the first start on.

It has three identities. `admin` may do everything; `offload` may read and write its bucket. A policy of the bucket can
withdraw its right to write while the server runs, without a file or a restart. `ready` proves that the buckets exist:
it may write to one that is made after the others, and may make none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compose.servers import LOOPBACK
from compose.service import READY_BUCKET, Service
from gameday.system.address import encoded

__all__ = ["PARTS", "process", "url"]

PARTS = ("s3", "master", "volume", "filer", "admin")
"""The parts of the one process. Each listens on two ports; the second, for gRPC, is by default 10000 above the
first."""

STOP_S = 3.0
"""The grace of a stop: SIGTERM may take half a minute, and SIGKILL loses nothing that was acknowledged."""


def process(
    folder: Path,
    ports: Mapping[str, int],
    bucket: str,
    admin_password: str,
    offload_password: str,
    listen: str = LOOPBACK,
) -> Service:
    """Write the configuration. ports: for each of PARTS `<part>` and `<part>.grpc`. An identity's access key is its
    name."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    config = folder / "s3.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps(_identities(bucket, admin_password, offload_password), indent=1))
    argv = [
        *(str(Path(sys.executable).with_name("weed")), "mini", f"-dir={data}", f"-ip={LOOPBACK}", f"-ip.bind={listen}"),
        *(f"-{part}.port={ports[part]}" for part in PARTS),
        *(f"-{part}.port.grpc={ports[f'{part}.grpc']}" for part in PARTS),
        *(f"-s3.config={config}", f"-bucket={bucket},{READY_BUCKET}"),
        *("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
    ]
    ready = url(ports["s3"], "ready", offload_password)  # writing as `admin` would make a missing bucket
    return Service("seaweedfs", tuple(argv), str(folder), ready=ready, grace_s=STOP_S)


def url(port: int, user: str, password: str) -> str:
    """Return the URL for an identity: s3://ACCESS_KEY:SECRET_KEY@HOST:PORT."""
    return f"s3://{encoded(user)}:{encoded(password)}@127.0.0.1:{port}"


def _identities(bucket: str, admin_password: str, offload_password: str) -> Mapping[str, Any]:
    def identity(name: str, password: str, *actions: str) -> Mapping[str, Any]:
        return {"name": name, "credentials": [{"accessKey": name, "secretKey": password}], "actions": actions}

    rights = (f"{right}:{bucket}" for right in ("Read", "Write", "List", "Tagging"))
    return {
        "identities": [
            identity("admin", admin_password, "Admin", "Read", "Write", "List", "Tagging"),
            identity("offload", offload_password, *rights),
            identity("ready", offload_password, f"Write:{READY_BUCKET}"),
        ]
    }
