"""Files that a user begins with: a gameday.toml for a running platform, a failure test, a driver."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gameday.cli.shared import EXIT_NO_VERDICT, out, writable
from gameday.errors import ConfigError

__all__ = ["init", "new"]


def init(
    project: Annotated[str, typer.Option(help="The Compose project, as `docker compose ls` has it.")] = "",
    kafka: Annotated[str, typer.Option(metavar="HOST:PORT", help="Brokers, several separated by commas.")] = "",
    kafka_client: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE|FILE", help="A setting of librdkafka's (security.protocol=SASL_SSL), or a file of them."
        ),
    ] = None,
    clickhouse: Annotated[str, typer.Option(metavar="URL", help="http://user:password@host:8123")] = "",
    postgres: Annotated[
        list[str] | None,
        typer.Option(metavar="DSN", help="postgresql://user:password@host:5432/database; of several databases each."),
    ] = None,
    connect: Annotated[str, typer.Option(metavar="URL", help="Kafka Connect's REST: http://host:8083")] = "",
    nats: Annotated[str, typer.Option(metavar="URL", help="JetStream: nats://user:password@host:4222")] = "",
    redis: Annotated[
        str, typer.Option(metavar="URL", help="Streams of Redis or Valkey: redis://:password@host:6379")
    ] = "",
    s3: Annotated[str, typer.Option(metavar="URL", help="An object store: http://key:secret@host:9000")] = "",
    prometheus: Annotated[str, typer.Option(metavar="URL", help="http://host:9090")] = "",
    prefect: Annotated[str, typer.Option(metavar="URL", help="gameday's own Prefect server.")] = "",
    canary: Annotated[
        bool, typer.Option("--canary", help="Judge by records that gameday writes, and declare none of the platform's.")
    ] = False,
) -> None:
    """Look at a running platform and write a gameday.toml for it: every guess with where it is from, and a QUESTION
    where only you know. Nothing of the platform is changed. Exit 3 when its records are not yet as the file says."""
    from gameday.reports.found import found
    from gameday.stack.init.written import OWN_TESTS
    from tasks.init import BROKERS, Asked, client_of, look_again, looked, text_of

    path = Path(os.environ.get("GAMEDAY_CONFIG") or "gameday.toml").resolve()
    client = client_of(kafka_client or ())
    kafka = kafka or client.pop(BROKERS, "")
    asked = Asked(project, kafka, client, clickhouse, postgres or (), connect, prometheus, prefect, nats, redis, s3)
    asked.check()
    if path.exists():
        if not sys.stdin.isatty():
            raise ConfigError(f"{path} is there already. Remedy: gameday --config OTHER init, or move it away")
        typer.confirm(f"{path} is there already. Overwrite it?", abort=True)
    writable(path)
    page = text_of(looked(asked, path.parent.name, lambda line: out.print(line)), canary)
    path.with_name(OWN_TESTS).mkdir(exist_ok=True)
    path.write_text(page.text, encoding="utf-8")
    out.print(f"{path} is written, with {len(page.questions)} questions:")
    for question in page.questions:
        out.print(f"- {question}")
    for warning in page.warnings:
        out.print(warning)
    for name in page.secrets:
        out.print(f"export {name}=… before any other command: its value is not in the file")
    rows = look_again(page, path)
    out.print(found(rows))
    if not all(row["ok"] for row in rows):
        out.print(f"Next: answer the questions, mend what is a no, then gameday --config {path} check --look")
        raise typer.Exit(EXIT_NO_VERDICT)
    out.print(f"Next: answer the questions, then gameday --config {path} check")


def new(
    what: Annotated[str, typer.Argument(metavar="[driver] NAME", help="A failure test, such as broker_disk_full.")],
    name: Annotated[str | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Write the two files of a new failure test: NAME.py and NAME.md, in the folders that gameday.toml names. Or, by
    `gameday new driver NAME`, a driver and its tests beside gameday.toml: docs/drivers.md."""
    from deployments import scaffold
    from gameday.stack.reading import default_path, folder_of_runbooks, folder_of_tests

    if what == "driver" and name is not None:
        paths, lines = scaffold.driver(name, default_path().resolve().parent)
        for path in paths:
            out.print(str(path))
        out.print(f"\nIts tests pass: pytest {paths[1]}\nFor gameday.toml, each key a field of the class:\n")
        out.print(lines, markup=False, highlight=False)
        return
    if what == "driver" or name is not None:
        raise ConfigError(
            f"gameday new {what}{f' {name}' if name else ''}. Remedy: gameday new NAME for a failure test, "
            "gameday new driver NAME for a driver"
        )
    for path in scaffold.scaffold(what, folder_of_tests(), folder_of_runbooks()):
        out.print(str(path))
