"""gameday.toml: what is accepted, and how what is wrong is named."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from gameday import ports
from gameday.cli import app
from gameday.errors import ConfigError, NotUp
from gameday.faults.failpoint import Failpoint
from gameday.faults.partition import Partition
from gameday.faults.stop import Stop
from gameday.faults.write_denied import WriteDenied
from gameday.stack import config, reading, variables
from gameday.stack.live import Stack, open_stack
from gameday.state import ROOT, State
from tests.fakes import write_config

EMBEDDED = ROOT / "compose" / "trades" / "gameday.toml"


@pytest.fixture
def state(tmp_path: Path) -> State:
    names = set(variables.VARIABLE.findall(EMBEDDED.read_text()))
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
        return reading.load(path, state)

    return load


def test_the_embedded_configuration_is_read_with_the_drawn_values(state: State) -> None:
    """Every ${NAME} is filled in from the state folder's stack.env."""
    loaded = reading.load(EMBEDDED, state)
    assert loaded.name == "trades"
    assert "${" not in loaded.model_dump_json()


def test_a_password_does_not_show_in_the_configuration_s_text(state: State) -> None:
    """The history's address holds a password, so it is a secret in every rendering."""
    assert "**********" in repr(reading.load(EMBEDDED, state).history)


def test_the_environment_wins_over_stack_env(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name in the environment is what the user set last."""
    monkeypatch.setenv("PREFECT_PORT", "4242")
    assert ":4242/api" in reading.load(EMBEDDED, state).prefect.api_url


def test_a_name_that_nobody_set_says_that_the_stack_is_not_up(tmp_path: Path) -> None:
    """Without stack.env the remedy is gameday up, and the exit code that of a stack that is down."""
    with pytest.raises(NotUp, match=r"\$\{GAMEDAY_PG_PASSWORD\}.*Remedy: gameday up") as raised:
        reading.load(EMBEDDED, State(tmp_path))
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("opt_in = true", "optin = true", r"components.handler-binance.optin is no key .*Did you mean opt_in"),
        ('name = "trades"', 'name = "Trades!"', r"name: string should match"),
        ('visible = "silver"', 'visible = "silber"', r"streams.trades.visible is 'silber'"),
        ('hops = ["exchange"', 'hops = ["market"', r"no \[hops.market\]. Known: .*exchange"),
        (
            'path = ["exchange", "handler-{venue}"',
            'path = ["exchange", "handler-{city}"',
            r"'city' is not in "
            r"streams.trades.group",
        ),
        ('"broker", "clickhouse"]', '"broker", "clickhaus"]', r"no \[components.clickhaus\]"),
        ("[components.broker]", '[components.broker]\nhost = "moon"', r"no \[hosts.moon\]. Known: local, toxiproxy"),
        ("rate_hz = 2,", "rate_hz = 0,", r"rate_hz: input should be greater than 0 \(got 0\)"),
        ("[streams.trades]", "[streams.trades", r"is not TOML"),
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
    stack = Stack(reading.load(EMBEDDED, state), state, EMBEDDED)
    points: Any = stack.points("handler-kraken")
    assert points.socket.endswith("/handler-kraken/points.sock")
    with pytest.raises(ConfigError, match=r"'broker' has no failpoints\. Remedy: components\.broker\.points"):
        stack.points("broker")


def test_what_a_fault_needs_and_its_component_lacks_is_told(state: State) -> None:
    """Such a test is skipped, with these words."""
    stack = Stack(reading.load(EMBEDDED, state), state, EMBEDDED)
    cut: Any = SimpleNamespace(component="broker", needs=(ports.Links,))
    assert stack.lacks(Failpoint("handler-kraken", "spot", "kill")) == []
    assert stack.lacks(Failpoint("broker", "spot", "kill")) == ["broker has no points in gameday.toml"]
    assert stack.lacks(cut) == ["broker is on host 'local', which can't links"]
    assert stack.lacks(Partition("clickhouse", "broker-clickhouse")) == []
    assert stack.lacks(Partition("clickhouse", "spark-clickhouse")) == ["stack trades has no link 'spark-clickhouse'"]
    assert stack.lacks(WriteDenied("s3")) == []
    assert stack.lacks(WriteDenied("broker")) == ["broker has no rights in gameday.toml"]
    assert stack.lacks(Stop("nats")) == ["stack trades has no component 'nats'"]


def test_a_token_of_a_channel_is_shown_nowhere(edited: Callable[[str, str], config.StackConfig]) -> None:
    """Whatever its key is called: which setting is a secret, only the driver knows."""
    loaded = edited('"Bearer ${PAGER_TOKEN}" }', '"Bearer hunter2" }\nnote = "hunter2"')
    assert "hunter2" not in repr(loaded) + str(loaded.model_dump()) + loaded.model_dump_json()


def test_a_token_that_nobody_set_keeps_nobody_from_reading_the_configuration(
    edited: Callable[[str, str], config.StackConfig],
) -> None:
    """Who mends reads the same file. It is missed when somebody is to be told."""
    loaded = edited("${PAGER_TOKEN}", "${NOBODY_SET_THIS}")
    with pytest.raises(ConfigError, match=r"channels\.desk\.headers\.Authorization needs \$\{NOBODY_SET_THIS\}"):
        variables.revealed(loaded.channels["desk"].settings, str, "channels.desk")


def test_prefect_s_blocks_are_for_channels_alone(edited: Callable[[str, str], config.StackConfig]) -> None:
    """The guardian heals without Prefect, so nothing that it needs may be kept there."""
    loaded = edited("${PAGER_TOKEN}", "${prefect:pager-token}")
    opened = variables.revealed(
        loaded.channels["desk"].settings, {"pager-token": "hunter2"}.__getitem__, "channels.desk"
    )
    assert opened["headers"]["Authorization"] == "Bearer hunter2"
    with pytest.raises(ConfigError, match=r"history refers to Prefect's block 'db', which only channels"):
        edited("${GAMEDAY_PG_PASSWORD}", "${prefect:db}")


@pytest.mark.parametrize("name", ["Ops", "../ops", "a b"])
def test_a_channel_s_name_is_a_word(edited: Callable[[str, str], config.StackConfig], name: str) -> None:
    """It becomes the name of a file."""
    with pytest.raises(ConfigError, match="string should match pattern"):
        edited("[channels.desk]", f'[channels."{name}"]')


def test_a_public_address_holds_no_password(edited: Callable[[str, str], config.StackConfig]) -> None:
    """It is in every message."""
    with pytest.raises(ConfigError, match=r"public\.reports_url: string should match pattern") as raised:
        edited("[streams.trades]", '[public]\nreports_url = "https://user:hunter2@example.com"\n[streams.trades]')
    assert "hunter2" not in str(raised.value)


def test_a_missing_file_and_a_binary_one_are_explained(tmp_path: Path, state: State) -> None:
    """Neither ends in a traceback."""
    with pytest.raises(ConfigError, match="no configuration at"):
        reading.load(tmp_path / "none.toml", state)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="can't be read"):
        reading.load(tmp_path / "binary.toml", state)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('[trend]\nregression = "page"', r"trend\.regression: input should be 'fail' or 'tell'"),
        ("[retention]\nkeep_days = 0", r"retention\.keep_days: .*greater than or equal to 1"),
        ('[metrics]\ntextfile = "gameday.prom"', r"metrics\.textfile: .*absolute path"),
        ('[metrics]\npush_url = "push:9091"', r"metrics\.push_url: .*http://host:9091 \(got 'push:9091'\)"),
        ('[metrics]\npush_url = "http://push:x"', r"metrics\.push_url is 'http://push:x', which is no address"),
    ],
)
def test_what_follows_a_run_is_checked(
    edited: Callable[[str, str], config.StackConfig], section: str, said: str
) -> None:
    """How a slow-down is told, how long runs are kept, where the metrics go."""
    with pytest.raises(ConfigError, match=said):
        edited("[prefect]", f"{section}\n\n[prefect]")


def test_a_year_is_kept_unless_it_is_said_otherwise(edited: Callable[[str, str], config.StackConfig]) -> None:
    """The defaults, and that they can be changed."""
    assert edited("[prefect]", "[prefect]").retention.keep_days == 365
    assert edited("[prefect]", '[trend]\nregression = "tell"\n\n[prefect]').trend.regression == "tell"


@pytest.mark.parametrize(
    ("path", "why"),
    [("ca.pem", "not an absolute path"), ("/nowhere/ca.pem", "no such file"), ("/etc/hostname", "no PEM")],
)
def test_a_file_of_tls_that_is_none_is_told_when_it_is_read(
    path: str, why: str, edited: Callable[[str, str], config.StackConfig]
) -> None:
    """Key, value and remedy, beside a driver as beside a bare address; before anything is asked."""
    for old, where in (("[prefect]\n", "prefect"), ('driver = "tape"\n', "hops.exchange")):
        with pytest.raises(ConfigError, match=rf"{where}\.ca is '{path}': {why}.*Remedy: the absolute path of a PEM"):
            edited(old, f'{old}ca = "{path}"\n')


def test_only_a_table_with_a_driver_or_an_address_names_files(edited: Callable[[str, str], config.StackConfig]) -> None:
    """A field of a record may be called ca, and a store's key is no file."""
    assert edited('side = "text"', 'side = "text", ca = "text"').declared["trades"].types["ca"]


def test_a_value_that_a_driver_refuses_is_told_with_its_table(tmp_path: Path) -> None:
    """Such as an address that is none: not a traceback, when the hop is first asked."""
    path = write_config(tmp_path)
    table = 'driver = "clickhouse"\nurl = ""\nkind = "append"\ntable = "t"\n'
    path.write_text(path.read_text().replace('driver = "tape"\n', table))
    with pytest.raises(
        ConfigError, match=r"hops\.one: Hop of .*clickhouse.* refuses its settings: .*scheme://host:port.* takes url, "
    ):
        _ = open_stack(path).hops


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """Forms that aren't filled in, addresses that are none, wrong values; each once, and no secret."""
    path = write_config(tmp_path)
    text = path.read_text().replace(
        "postgresql://nobody@127.0.0.1:1/none", "postgresql://nobody:hun#ter2@127.0.0.1:1/n"
    )
    text = text.replace('api_url = "http://127.0.0.1:1/api"', 'api_url = "http://${PORT:-4200}/api"')
    text = text.replace('visible = "two"', 'visible = "three"').replace('sequence = "id"', "sequence = 7")
    path.write_text(text + '[components.db.probes.more]\ndriver = "disk"\nrate_hz = 0\n')
    with pytest.raises(ConfigError) as raised:
        reading.load(path, State(tmp_path))
    told = str(raised.value)
    for mistake in (
        "history is 'postgresql://***@127.0.0.1:1/n', which is no address",
        "prefect.api_url has '${PORT:-4200}', which gameday doesn't fill in",
        "streams.numbers.sequence: input should be a valid string",
        "components.db.probes.more.rate_hz: input should be greater than 0",
    ):
        assert told.count(mistake) == 1, told
    assert told.count("history") == told.count("api_url") == 1
    assert "ter2" not in told


def test_mistakes_are_told_before_a_value_that_nobody_has_set(tmp_path: Path) -> None:
    """They stay when the stack is up."""
    path = write_config(tmp_path)
    path.write_text(path.read_text().replace("nobody@", "${NOBODY}@").replace("127.0.0.1:1/api", "${HOST}/${port}"))
    with pytest.raises(ConfigError, match=r"prefect\.api_url has '\$\{port\}'") as raised:
        reading.load(path, State(tmp_path))
    assert "HOST" not in str(raised.value)
    path.write_text(path.read_text().replace("${port}", "api"))
    with pytest.raises(NotUp, match=r"history needs \$\{NOBODY\}"):
        reading.load(path, State(tmp_path))


def test_check_tells_what_is_wrong_with_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several hops, a host, a probe; each with its keys."""
    path = write_config(tmp_path)
    text = path.read_text().replace('driver = "clickhouse"', 'driver = "kafka"\nbrokers = 7\ntopic = "t"')
    path.write_text(text + '[components.db.probes.more]\ndriver = "dsk"\n[hosts.moon]\n')
    monkeypatch.setenv("GAMEDAY_CONFIG", str(path))
    monkeypatch.setenv("GAMEDAY_STATE", str(tmp_path))
    raised = CliRunner().invoke(app, ["check"]).exception
    assert isinstance(raised, ConfigError)
    mistakes = str(raised)
    for mistake in (
        "hops.one: records, url missing. Hop of gameday.drivers.tape takes",
        "hops.two: unknown topic. Hop of gameday.drivers.kafka.log takes",
        "hops.two.brokers: input should be a valid string (got 7)",
        "hosts.moon: there is no 'moon' in gameday/hosts",
        "components.db.probes.more: there is no 'dsk' in gameday/drivers. Did you mean disk",
    ):
        assert mistake in mistakes


# ---- who asks Prefect --------------------------------------------------------------------------------------


def test_prefects_clients_get_what_the_file_says_and_nothing_of_another_server() -> None:
    """A user in the address is the auth string; the address that Prefect writes into its logs is without."""
    server = config.PrefectConfig(api_url="https://me:p%40ss%20w@prefect.example/api", ca="/ca.pem")
    environment = {"PREFECT_API_KEY": "pnu_another", "PREFECT_API_URL": "http://another/api", "HOME": "/h"}
    server.applied(environment)
    assert environment == {
        "PREFECT_API_URL": "https://prefect.example/api",
        "PREFECT_API_AUTH_STRING": "me:p@ss w",
        "PREFECT_API_SSL_CERT_FILE": "/ca.pem",
        "HOME": "/h",
    }
    key = config.PrefectConfig(
        api_url="https://api.prefect.cloud/api/accounts/a/workspaces/w", api_key=SecretStr("pnu_1")
    )
    assert key.environment == {
        "PREFECT_API_URL": "https://api.prefect.cloud/api/accounts/a/workspaces/w",
        "PREFECT_API_KEY": "pnu_1",
    }
    assert "pnu_1" not in repr(key)


@pytest.mark.parametrize(
    "told",
    [
        'auth_string = "me:hunter2"\napi_key = "hunter2"',
        'auth_string = "me:hunter2"\napi_url = "http://me:hunter2@127.0.0.1:1/api"',
    ],
)
def test_who_asks_prefect_is_said_once(edited: Callable[[str, str], config.StackConfig], told: str) -> None:
    """Else it would depend on who asks, which counts."""
    old = 'api_url = "http://127.0.0.1:${PREFECT_PORT}/api"'
    new = f"{told}\n{'' if 'api_url' in told else old}\n"
    ours = 'auth_string = "gameday:${PREFECT_PASSWORD}"   # its page asks for it too\n'
    text = EMBEDDED.read_text()
    both = text[text.index(old) : text.index(ours) + len(ours)]
    with pytest.raises(ConfigError, match=r"prefect: .*more than one of auth_string, api_key and a user") as raised:
        edited(both, new)
    assert "hunter2" not in str(raised.value)
