"""Runs a ClickHouse server from the wheel chdb-core: HTTP on loopback, one user with a password, metrics on /metrics.

`python -m compose.servers.clickhouse FOLDER` runs it in the foreground. The pipeline makes the tables.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import os
import signal
import sys
import threading
import types
from pathlib import Path

from compose.servers import LOOPBACK
from compose.service import Service, python
from gameday.system.address import encoded

__all__ = ["main", "process", "url"]

COMMON = Path(__file__).with_suffix(".xml")
"""The settings of every ClickHouse of the platform, also of one in a container."""

OWN = """\
  <listen_host>{listen}</listen_host>
  <http_port>{port}</http_port>
  <users_config>users.xml</users_config>
  <default_profile>default</default_profile>
</clickhouse>
"""

USERS = """\
<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SYSTEM LISTEN ON *.*</query>
        <query>GRANT CREATE TEMPORARY TABLE ON *.*</query>
      </grants>
    </default>
    <gameday>
      <password_sha256_hex>{sha256}</password_sha256_hex>
      <networks><ip>{network}</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
    </gameday>
  </users>
</clickhouse>
"""
"""The engine's own session is `default` without a password, and loopback clients look the same. So `default` may only
listen and wait. With the right to read files it would show any local user whatever this process can read."""


def process(folder: Path, port: int, password: str, after: tuple[str, ...] = (), listen: str = LOOPBACK) -> Service:
    """Write the configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    own = OWN.format(listen=listen, port=port)
    (folder / "config.xml").write_text(COMMON.read_text().replace("</clickhouse>\n", own))
    users = folder / "users.xml"
    users.touch(mode=0o600)
    network = LOOPBACK if listen == LOOPBACK else "0.0.0.0/0"
    users.write_text(USERS.format(sha256=hashlib.sha256(password.encode()).hexdigest(), network=network))
    return python(
        "clickhouse",
        folder,
        "-m",
        "compose.servers.clickhouse",
        str(folder),
        ready=f"http://127.0.0.1:{port}/ping",
        after=after,
    )


def url(port: int, password: str) -> str:
    """Return the URL for its user."""
    return f"http://gameday:{encoded(password)}@127.0.0.1:{port}"


def main() -> None:
    """Serve until terminated.

    The package's own `import chdb` opens and closes an engine, after which Kafka tables fail; so only its native module
    is loaded. The engine listens while one query reads from a pipe that nobody writes to. Closing the pipe ends it
    cleanly: tables are flushed, consumer groups left.
    """
    folder = Path(sys.argv[1]).resolve()
    engine = _engine()
    os.chdir(folder)  # config.xml is read from the working directory
    reading, writing = os.pipe()
    ended = threading.Event()

    def serve() -> None:
        hold = f"INSERT INTO FUNCTION null('x String') FROM INFILE '/dev/fd/{reading}' FORMAT TSV"
        sql = f"SYSTEM START LISTEN HTTP; {hold}"
        try:
            engine.query(sql, "TSV", path=str(folder / "data"))
        except Exception as e:  # noqa: BLE001 - whatever ended the engine ends the process; the log keeps why
            print(f"engine: {e!r}", flush=True)  # noqa: T201
        finally:
            ended.set()

    def release(*_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        os.close(writing)

    threading.Thread(target=serve, daemon=True).start()
    signal.signal(signal.SIGTERM, release)
    signal.signal(signal.SIGINT, release)
    ended.wait()
    os._exit(0)  # the engine's threads don't end cleanly


def _engine() -> types.ModuleType:
    found = importlib.util.find_spec("chdb")
    if not found or not found.submodule_search_locations:
        sys.exit("the package chdb-core is missing. Remedy: pip install 'gameday[embedded]'")
    base = Path(found.submodule_search_locations[0])
    bare = types.ModuleType("chdb")
    bare.__path__ = [str(base)]
    sys.modules["chdb"] = bare
    os.chdir(base)
    ctypes.CDLL(str(next(base.glob("_chdb*.so"))), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)
    return importlib.import_module("chdb._chdb")


if __name__ == "__main__":
    main()
