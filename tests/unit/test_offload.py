"""Positions, windows and settings of the offload: what needs no server."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.trades.offload.position import further, size, step, window
from pipelines.trades.offload.settings import ConfigError, Settings

KEYS = st.sampled_from([f"{topic}/{partition}" for topic in ("a.b", "c") for partition in range(3)])
POSITIONS = st.dictionaries(KEYS, st.integers(0, 10**6))

GOOD = {
    "OFFLOAD_CLICKHOUSE_URL": "http://reader:secret-1@ch:8123",
    "OFFLOAD_BROKERS": "one:9092,two:9092",
    "OFFLOAD_TOPICS": "a.b,c",
    "OFFLOAD_S3_ENDPOINT": "http://s3:9000",
    "OFFLOAD_S3_ACCESS_KEY": "key",
    "OFFLOAD_S3_SECRET_KEY": "secret-2",
    "OFFLOAD_WAREHOUSE": "s3://lake/warehouse",
    "OFFLOAD_CATALOG_DSN": "postgresql://app:secret-3@pg:5432/lake",
    "OFFLOAD_MIRROR_DSN": "postgresql://app:secret-4@pg:5432/platform",
}


@given(POSITIONS, POSITIONS, st.integers(1, 10**5))
def test_a_step_is_forward_and_of_the_size_that_is_allowed(
    start: dict[str, int], end: dict[str, int], most: int
) -> None:
    """No larger, not much smaller either, and never beyond what is committed, again and again."""
    now = further(start, {})
    for _ in range(10):
        after = step(now, end, most)
        assert min(size(now, end), most - len(end)) <= size(now, after) <= most
        assert all(offset >= now.get(key, 0) for key, offset in after.items())
        assert all(offset <= max(now.get(key, 0), end.get(key, 0)) for key, offset in after.items())
        assert after != now or size(now, end) == 0
        now = after


def test_a_step_smaller_than_the_number_of_partitions_still_advances() -> None:
    """One offset at a time, if it must be."""
    now: dict[str, int] = {}
    end = {"t/0": 2, "t/1": 2, "t/2": 1}
    steps = 0
    while size(now, end):
        now, steps = dict(step(now, end, 1)), steps + 1
    assert (now, steps) == (end, 5)


def test_a_group_that_was_set_back_moves_no_position() -> None:
    """What is in the table stays there."""
    assert size({"t/0": 10}, {"t/0": 5}) == 0
    assert step({"t/0": 10}, {"t/0": 5}, 100) == {"t/0": 10}
    assert window({"t/0": 10}, {"t/0": 5}) == "false"


def test_a_topic_is_a_string_whatever_is_in_it() -> None:
    """It is quoted, not pasted."""
    assert window({}, {"it's\\/0": 5}) == r"((topic = 'it\'s\\' AND partition = 0 AND offset >= 0 AND offset < 5))"


@pytest.mark.parametrize("name", ["CLICKHOUSE_URL", "CATALOG_DSN", "MIRROR_DSN"])
@pytest.mark.parametrize("password", ["pa#ss", "pa/ss", "pa?ss", "pa[ss", "pa@ss", "pa%ss", "pa ss"])
def test_a_password_that_is_not_encoded_is_told_and_not_shown(name: str, password: str) -> None:
    """Before a client takes a piece of it for the port, and tells that."""
    good = GOOD[f"OFFLOAD_{name}"]
    bad = good.replace(good.partition("://")[2].partition("@")[0], f"reader:{password}")
    with pytest.raises(ConfigError, match=f"OFFLOAD_{name} is not as it must be") as raised:
        Settings.of({**GOOD, f"OFFLOAD_{name}": bad})
    assert "pa" + password[2] not in str(raised.value)


def test_a_window_is_half_open_in_each_partition() -> None:
    """start <= offset < end; partitions without news are left out."""
    found = window({"a.b/0": 3}, {"a.b/0": 5, "a.b/1": 0, "c/2": 7})
    assert found == (
        "((topic = 'a.b' AND partition = 0 AND offset >= 3 AND offset < 5)"
        " OR (topic = 'c' AND partition = 2 AND offset >= 0 AND offset < 7))"
    )


def test_settings_come_from_the_environment() -> None:
    """With defaults for what has one, and numbers as numbers."""
    settings = Settings.of({**GOOD, "OFFLOAD_COMMIT_ROWS": "1000"})
    assert (settings.commit_rows, settings.interval_s, settings.table) == (1000, 900, "trades.silver")
    assert (settings.clickhouse, settings.postgres) == ("ch:8123", "pg:5432")


def test_no_password_is_shown() -> None:
    """Neither in the settings' text nor in the addresses made for messages."""
    settings = Settings.of(GOOD)
    shown = f"{settings!r} {settings.clickhouse} {settings.postgres} {settings.postgres_of_mirror}"
    assert "secret-" not in shown


def test_every_wait_is_a_share_of_one_setting() -> None:
    """What a server that hangs costs a run, by default and where it is set."""
    usual, quick = Settings.of(GOOD), Settings.of({**GOOD, "OFFLOAD_ANSWER_S": "9"})
    assert (usual.answer_s, usual.request_s, usual.connect_s) == (30, 10.0, 5)
    assert (quick.answer_s, quick.request_s, quick.connect_s) == (9, 3.0, 2)


@pytest.mark.parametrize("name", sorted(GOOD))
def test_a_missing_variable_is_named(name: str) -> None:
    """With an example of what it must be."""
    with pytest.raises(ConfigError, match=f"{name} is missing. Remedy: set it to something like .+"):
        Settings.of({k: v for k, v in GOOD.items() if k != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OFFLOAD_CLICKHOUSE_URL", "ch:8123"),
        ("OFFLOAD_BROKERS", "one"),
        ("OFFLOAD_TOPICS", "a'; DROP TABLE"),
        ("OFFLOAD_WAREHOUSE", "/tmp/lake"),
        ("OFFLOAD_CATALOG_DSN", "sqlite:///x"),
        ("OFFLOAD_TABLE", "silver"),
        ("OFFLOAD_COMMIT_ROWS", "0"),
        ("OFFLOAD_INTERVAL_S", "15m"),
    ],
)
def test_a_wrong_variable_is_named_and_not_shown(name: str, value: str) -> None:
    """Its value may hold a password."""
    with pytest.raises(ConfigError, match=f"{name} is not as it must be") as error:
        Settings.of({**GOOD, name: value})
    assert value not in str(error.value).partition("Remedy")[0]


def test_a_run_imports_no_pandas() -> None:
    """A run's process is mostly imports; pyarrow takes pandas along wherever it is installed, unless it is told."""
    program = """
import sys
from pipelines.trades.offload import waiting
waiting.import_less()
from pipelines.trades.offload import engine
sys.exit("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
