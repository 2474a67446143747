"""Commands that look stay quick: what takes long to import is imported by who needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows import catalogue, definitions, general
from gameday.stack.reading import default_path
from gameday.state import ROOT
from tasks.definition import definition, described
from tests.fakes import embedded_env

HEAVY = frozenset(
    {"boto3", "clickhouse_connect", "confluent_kafka", "docker", "httpx", "markdown_it", "numpy", "pandas", "prefect",
     "pyarrow", "pyiceberg", "requests", "slack_sdk", "sqlalchemy", "structlog"}
)  # fmt: skip
"""Each takes a tenth of a second and more, up to Prefect's two."""

OURS = frozenset(
    {"gameday.drivers.kafka.log", "gameday.drivers.postgres.table", "gameday.runbooks.blocks", "tasks.look"}
)
"""Of gameday's own what only `check` needs: together a tenth of what a status imports."""

COMPUTES = frozenset({"numpy"})
"""What the definitions of the failure tests may import besides: their conditions compute with it."""

STORE = frozenset(
    {"confluent_kafka", "httpx", "markdown_it", "pandas", "pyarrow", "pyiceberg", "requests", "sqlalchemy"}
)
"""What `check` may import besides: it reads the log's end, the archive, the alerts and the runbooks."""


def imported(*arguments: str, state: Path) -> frozenset[str]:
    """The heavy modules that a command has imported when it ends, however it ends. Nothing of the stack is there."""
    asked = f"gameday.cli.sys.argv[1:] = {list(arguments)!r}"
    code = f"import gameday.cli, atexit, json, sys; {asked}; "
    code += "atexit.register(lambda: print('\\nimported', json.dumps(sorted(sys.modules)))); gameday.cli.main()"
    env = {"PATH": "/usr/bin:/bin", "GAMEDAY_STATE": str(state), "HOME": str(state)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    _, _, told = done.stdout.rpartition("\nimported ")
    assert "Traceback" not in done.stderr, done.stderr
    return (HEAVY | OURS) & set(json.loads(told))


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("status", frozenset()),
        ("list", COMPUTES),
        ("check", COMPUTES | STORE | OURS),
        ("history", frozenset()),
        ("report", frozenset()),
        ("failpoints list", frozenset()),
        ("heal --dry-run", frozenset()),
        ("abort", frozenset()),
    ],
)  # fmt: skip
def test_a_command_that_looks_imports_no_more_than_it_needs(
    command: str, needed: frozenset[str], tmp_path: Path
) -> None:
    """Runbooks ask for the status at each step, and who is on call waits for it."""
    (tmp_path / "stack.env").write_text(embedded_env(default_path()))
    night = tmp_path / "nights" / "n"
    night.mkdir(parents=True)
    (night / "results.json").write_text('{"night": "n", "results": [], "findings": []}')
    assert imported(*command.split(), state=tmp_path) <= needed


def test_the_parameters_are_those_that_prefect_shows() -> None:
    """`gameday list --json` tells them without Prefect."""
    for name, flow in {**catalogue(), **general()}.items():
        assert described(definition(flow)) == flow.parameters.model_dump()["properties"], name


def test_definitions_and_flows_are_the_same_tests_in_the_same_order() -> None:
    """Whichever was asked for first."""
    code = """
from flows import catalogue, definitions, general
from prefect.flows import Flow
from tasks.definition import definition
looked = definitions()
flows = {**catalogue(), **general()}
from flows.trades.broker_restart import broker_restart
assert isinstance(broker_restart, Flow) and flows["broker_restart"] is broker_restart
assert all(definition(flow) is looked[name] for name, flow in flows.items())
assert list(looked) == list(flows) == list(definitions())
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
    assert list(definitions()) == [*catalogue(), *general()]
