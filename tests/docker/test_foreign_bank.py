"""A bank's platform that nobody has described to gameday: three brokers behind TLS and a password, and a consumer of
two members. What `gameday init` writes of it, a person's answers in two lines, and verdicts that hold."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection, Iterator

import pytest

from compose.engine import unavailable
from tests.docker.containers import on_an_engine
from tests.docker.foreign.bank import Bank
from tests.docker.foreign.vault import BROKERS, INSIDE
from tests.docker.foreign.verdicts import INIT_WITHIN_S, NIGHT_WITHIN_S, begun, found_out, run

pytestmark = [
    pytest.mark.suite("foreign-secured"),
    pytest.mark.skipif(unavailable() is not None, reason=f"no engine here: {unavailable()}"),
    pytest.mark.timeout(NIGHT_WITHIN_S + 300),
]

CONTAINERS = [f"bank-{name}-1" for name in BROKERS]
LEDGER = ["bank-ledger-1", "bank-ledger-2"]
STRIKES = ("crash", "hang", "restart")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """The platform, up."""
    with on_an_engine(Bank, tmp_path_factory.mktemp("bank")) as stack:
        yield stack


def written(bank: Bank, name: str, struck: Collection[str], *options: str) -> str:
    """The file, in which a person has touched two lines. struck: the containers that may be broken."""
    asked = ("--postgres", bank.database, "--kafka-client", str(bank.properties), *options)
    assert len(begun(bank, name, asked, {"allow = []": f"allow = {json.dumps([*struck])}"})) == 2
    return (bank.folder / name).read_text()


def passes(bank: Bank, config: str, expected: Collection[tuple[str, str, str]]) -> None:
    """A night whose verdicts are a pass, of these tests with their component and members; others are skipped."""
    code, results, told = run(bank, config, "--all", within_s=NIGHT_WITHIN_S)
    judged = {
        (one["test"], one["params"]["component"], one["params"].get("members")): one["verdict"]
        for one in results
        if one["verdict"] != "skipped"
    }
    assert judged == dict.fromkeys(expected, "pass"), told
    assert code == 0, told


def said(bank: Bank, *options: str) -> str:
    """By a `gameday init` that finds no records, in one line."""
    (bank.folder / "none.toml").unlink(missing_ok=True)
    done = bank.gameday("--config", "none.toml", "init", "--project", "bank", *options, within_s=INIT_WITHIN_S)
    assert done.returncode == 3, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_brokers_that_take_nobody_are_said_with_what_they_demand(bank: Bank) -> None:
    """And a database whose port isn't published with its address; the rest of the file is written."""
    told = said(bank)
    assert "They speak SASL_SSL, and were asked by PLAINTEXT. Remedy: --kafka-client FILE, with security.proto" in told
    assert "sasl.mechanism=SCRAM-SHA-512" in told
    assert f"not looking at Postgres in db (at {bank.address('db')}:5432). Remedy: --postgres postgresql://" in told
    components = tomllib.loads((bank.folder / "none.toml").read_text())["components"]
    assert components["broker"] == {"members": [*BROKERS]}


def test_names_that_only_the_brokers_know_are_said_with_their_addresses(bank: Bank) -> None:
    """Asked at a port that isn't published, they show a certificate for another name, and send everybody on to it."""
    at = bank.address("kafka-1")
    asked = ("--kafka", f"{at}:{INSIDE}", "--kafka-client", str(bank.properties))
    assert "Remedy: --kafka with a name that their certificate has" in said(bank, *asked)
    told = said(bank, *asked, "--kafka-client", "ssl.endpoint.identification.algorithm=none")
    assert f"send every client on to kafka-1:{INSIDE}, kafka-2:{INSIDE}" in told
    assert f"Remedy: in /etc/hosts `{at} kafka-1`, `{bank.address('kafka-2')} kafka-2`" in told


def test_init_and_two_lines_are_a_night_that_passes(bank: Bank) -> None:
    """One of the three brokers is struck, and all of them."""
    raw = tomllib.loads(written(bank, "bank.toml", CONTAINERS))
    assert raw["components"]["ledger"] == {"role": "consumer", "members": LEDGER}
    assert raw["streams"]["payments"]["path"] == ["broker", "ledger", "postgres"]
    assert raw["cursors"]["ledger"]["component"] == "ledger"
    asked = {at["client"]["sasl.password"] for at in (raw["hops"]["log"], *raw["cursors"].values())}
    assert asked == {"${KAFKA_PASSWORD}"}
    passes(bank, "bank.toml", [(test, "broker", members) for test in STRIKES for members in ("one", "all")])


def test_the_same_with_the_canary_alone(bank: Bank) -> None:
    """No stream of the platform's is declared: gameday's own records are like its messages. A member of the consumer is
    struck, and what it had is the other's."""
    written(bank, "canary.toml", LEDGER[:1], "--canary")
    passes(bank, "canary.toml", [(test, "ledger", "one") for test in STRIKES])


@pytest.mark.parametrize("options", [(), ("--canary",)], ids=["its own records", "canary"])
def test_a_ledger_that_commits_before_it_writes_is_found_out(bank: Bank, options: tuple[str, ...]) -> None:
    """When a member is killed: the table lacks what it had committed, and one payment is named. The file is older than
    the defect."""
    written(bank, name := f"defect{len(options)}.toml", LEDGER[:1], *options)
    bank.deploy("--write-behind")
    try:
        found_out(bank, name, "ledger", "no_loss", "payments", "lost")
    finally:
        bank.deploy()
