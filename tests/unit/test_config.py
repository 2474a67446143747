"""gameday.toml: what is accepted, and how what is wrong is named."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gameday import config, ports
from gameday.errors import ConfigError, NotUp
from gameday.faults.failpoint import Failpoint
from gameday.faults.partition import Partition
from gameday.faults.stop import Stop
from gameday.faults.write_denied import WriteDenied
from gameday.stack import Stack
from gameday.state import ROOT, State

EMBEDDED = ROOT / "compose" / "trades" / "gameday.toml"


@pytest.fixture
def state(tmp_path: Path) -> State:
    names = set(config.VARIABLE.findall(EMBEDDED.read_text()))
    (tmp_path / "stack.env").write_text("# drawn\n" + "".join(f"{n}=4{i:03}\n" for i, n in enumerate(sorted(names))))
    return State(tmp_path)


@pytest.fixture
def edited(tmp_path: Path, state: State) -> Callable[[str, str], config.StackConfig]:
    """Load the embedded configuration with one text replaced by another."""

    def load(old: str, new: str) -> config.StackConfig:
        text = EMBEDDED.read_text()
        assert old in text
        path = tmp_path / "gameday.toml"
        path.write_text(text.replace(old, new, 1))
        return config.load(path, state)

    return load


def test_the_embedded_configuration_is_read_with_the_drawn_values(state: State) -> None:
    """Every ${NAME} is filled in from the state folder's stack.env."""
    loaded = config.load(EMBEDDED, state)
    assert loaded.name == "trades"
    assert "${" not in loaded.model_dump_json()


def test_a_password_does_not_show_in_the_configuration_s_text(state: State) -> None:
    """The history's address holds a password, so it is a secret in every rendering."""
    assert "**********" in repr(config.load(EMBEDDED, state).history)


def test_the_environment_wins_over_stack_env(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in the environment is what the user set last."""
    monkeypatch.setenv("PREFECT_PORT", "4242")
    assert ":4242/api" in config.load(EMBEDDED, state).prefect.api_url


def test_a_name_that_nobody_set_says_that_the_stack_is_not_up(tmp_path: Path) -> None:
    """Without stack.env the remedy is gameday up, and the exit code that of a stack that is down."""
    with pytest.raises(NotUp, match=r"\$\{GAMEDAY_PG_PASSWORD\}.*Remedy: gameday up") as raised:
        config.load(EMBEDDED, State(tmp_path))
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("opt_in = true", "optin = true", r"components.handler-binance.optin.*extra inputs"),
        ('name = "trades"', 'name = "Trades!"', r"name: string should match"),
        ('visible = "silver"', 'visible = "silber"', r"stream.visible is 'silber'"),
        ('hops = ["exchange"', 'hops = ["market"', r"no \[hops.market\]. Known: .*exchange"),
        (
            'path = ["exchange", "handler-{venue}"',
            'path = ["exchange", "handler-{city}"',
            r"'city' is not in "
            r"stream.fields",
        ),
        ('"broker", "clickhouse"]', '"broker", "clickhaus"]', r"no \[components.clickhaus\]"),
        ("[components.broker]", '[components.broker]\nhost = "moon"', r"no \[hosts.moon\]. Known: local, toxiproxy"),
        ("rate_hz = 2,", "rate_hz = 0,", r"rate_hz: input should be greater than 0 \(got 0\)"),
        ("[stream]", "[stream", r"is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(
    edited: Callable[[str, str], config.StackConfig], old: str, new: str, message: str
) -> None:
    """The error names the file, the key and the value, and its exit code is that of bad usage."""
    with pytest.raises(ConfigError, match=message) as raised:
        edited(old, new)
    assert "gameday.toml" in str(raised.value)
    assert raised.value.exit_code == 2


def test_a_component_says_how_its_failpoints_are_reached(state: State) -> None:
    """The handlers of the embedded stack do; of a component that doesn't, the error names the key to add."""
    stack = Stack(config.load(EMBEDDED, state), state, EMBEDDED)
    points: Any = stack.points("handler-kraken")
    assert points.socket.endswith("/handler-kraken/points.sock")
    with pytest.raises(ConfigError, match=r"'broker' has no failpoints\. Remedy: components\.broker\.points"):
        stack.points("broker")


def test_what_a_fault_needs_and_its_component_lacks_is_told(state: State) -> None:
    """Such a test is skipped, with these words."""
    stack = Stack(config.load(EMBEDDED, state), state, EMBEDDED)
    cut: Any = SimpleNamespace(component="broker", needs=(ports.Links,))
    assert stack.lacks(Failpoint("handler-kraken", "spot", "kill")) == []
    assert stack.lacks(Failpoint("broker", "spot", "kill")) == ["broker has no points in gameday.toml"]
    assert stack.lacks(cut) == ["broker is on host 'local', which can't links"]
    assert stack.lacks(Partition("clickhouse", "broker-clickhouse")) == []
    assert stack.lacks(Partition("clickhouse", "spark-clickhouse")) == ["stack trades has no link 'spark-clickhouse'"]
    assert stack.lacks(WriteDenied("s3")) == []
    assert stack.lacks(WriteDenied("broker")) == ["broker has no rights in gameday.toml"]
    assert stack.lacks(Stop("nats")) == ["stack trades has no component 'nats'"]


def test_a_missing_file_and_a_binary_one_are_explained(tmp_path: Path, state: State) -> None:
    """Neither ends in a traceback."""
    with pytest.raises(ConfigError, match="no configuration at"):
        config.load(tmp_path / "none.toml", state)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        config.load(tmp_path / "binary.toml", state)
