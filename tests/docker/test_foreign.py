"""A platform that nobody has described to gameday, on a real engine: what `gameday init` writes of it, a person's
answers in a few lines, and verdicts that hold: healthy it passes, and a planted defect is found at its hop, by key."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from compose.engine import Engine, unavailable
from tests.docker.foreign.stack import PASSWORD, Foreign

INIT_WITHIN_S = 120.0
NIGHT_WITHIN_S = 900.0
RUN_WITHIN_S = 240.0

pytestmark = [
    pytest.mark.suite("foreign"),
    pytest.mark.skipif(unavailable() is not None, reason=f"no engine here: {unavailable()}"),
    pytest.mark.timeout(NIGHT_WITHIN_S + 300),
]

HISTORY = 'history = "postgresql://127.0.0.1/gameday"'
ANSWERS = {
    HISTORY: 'history = "postgresql://gameday:${GAMEDAY_PG_PASSWORD}@127.0.0.1/gameday"',
    "allow = []": 'allow = ["shop-{struck}-1"]',
}
"""What a person writes, line for line; the other questions are answered by what stands there."""

LOSSY = "WHERE cityHash64(event_id) % 8 != 0"
"""Of a view that loses one record in eight."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Foreign]:
    """The platform, up; the engine ends with it."""
    folder = tmp_path_factory.mktemp("shop")
    folder.chmod(0o755)
    engine = Engine(folder / "engine")
    engine.up(print)
    try:
        stack = Foreign(engine, folder / "stack")
        stack.folder.mkdir()
        try:
            stack.up()
            yield stack
        finally:
            stack.down()
    finally:
        engine.clean(print)


def begun(shop: Foreign, name: str, struck: str, *options: str) -> list[str]:
    """The lines of the file of `gameday init` that its user has changed. struck: the service that may be broken."""
    path = shop.folder / name
    asked = ("init", "--project", "shop", "--clickhouse", shop.warehouse, "--prefect", "http://127.0.0.1:4200")
    done = shop.gameday("--config", name, *asked, *options, within_s=INIT_WITHIN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    written = path.read_text()
    assert PASSWORD not in written
    answered = written
    for line, answer in ANSWERS.items():
        assert answered.count(f"\n{line}\n") == 1, written
        answered = answered.replace(f"\n{line}\n", f"\n{answer.replace('{struck}', struck)}\n")
    path.write_text(answered)
    changes = difflib.ndiff(written.splitlines(), answered.splitlines())
    return [line for line in changes if line.startswith("+ ")]


def run(shop: Foreign, config: str, *tests: str, within_s: float) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, results and output of `gameday run`."""
    out = shop.folder / "results.json"
    out.unlink(missing_ok=True)
    done = shop.gameday("--config", config, "run", *tests, "--json", str(out), within_s=within_s)
    assert out.exists(), done.stdout + done.stderr
    return done.returncode, json.loads(out.read_text())["results"], done.stdout + done.stderr


def passes(shop: Foreign, config: str, component: str) -> None:
    """A night that breaks this component in every way, and each verdict is a pass."""
    code, results, told = run(shop, config, "--all", within_s=NIGHT_WITHIN_S)
    verdicts = {(one["test"], one["params"]["component"]): one["verdict"] for one in results}
    judged = {test: verdict for test, verdict in verdicts.items() if verdict != "skipped"}
    assert judged == {(test, component): "pass" for test in ("crash", "hang", "restart")}, told
    assert code == 0, told


def found_out(shop: Foreign, config: str, component: str) -> None:
    """A view that loses records: the table lacks them, and one is named."""
    shop.run_sql(f"ALTER TABLE analytics.activity_mv MODIFY QUERY {shop.view} {LOSSY}")
    try:
        code, (result,), told = run(shop, config, "crash", "-p", f"component={component}", within_s=RUN_WITHIN_S)
    finally:
        shop.run_sql(f"ALTER TABLE analytics.activity_mv MODIFY QUERY {shop.view}")
    assert (result["verdict"], code) == ("fail", 1), told
    verdict, why = next((one["verdict"], one["why"]) for one in result["findings"] if one["check"] == "no_loss")
    assert (verdict, "activity has" in why) == ("fail", True), why
    assert result["counts"]["lost"]["activity"] > 0
    assert any(_uuid(word.strip("',;:()[]")) for word in why.split()), why


def _uuid(word: str) -> bool:
    try:
        return UUID(word).version == 4
    except ValueError:
        return False


def test_init_and_two_lines_are_a_night_that_passes(shop: Foreign) -> None:
    """Crash, hang and restart of the log; a person has said where gameday's own database is, and what may be broken."""
    assert len(begun(shop, "shop.toml", "kafka")) == len(ANSWERS) == 2
    passes(shop, "shop.toml", "broker")


def test_the_same_with_the_canary_alone(shop: Foreign) -> None:
    """No stream of the platform's is declared: gameday's own records are like its messages. The warehouse is broken."""
    assert len(begun(shop, "canary.toml", "clickhouse", "--canary")) == 2
    passes(shop, "canary.toml", "clickhouse")


def test_a_view_that_loses_records_is_found_out(shop: Foreign) -> None:
    """At its hop, with the UUID of a record."""
    found_out(shop, "shop.toml", "broker")


def test_the_canary_alone_finds_it_out(shop: Foreign) -> None:
    """The same defect, by records that are all gameday's."""
    found_out(shop, "canary.toml", "clickhouse")
