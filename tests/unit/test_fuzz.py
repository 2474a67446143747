"""Random configurations and command lines: an error that names what is wrong, or none; never a traceback."""

from __future__ import annotations

import contextlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gameday import cli
from gameday.errors import ConfigError, GamedayError
from gameday.stack import reading, variables
from gameday.stack.live import Stack
from gameday.state import ROOT, State

EMBEDDED = ROOT / "compose" / "trades" / "gameday.toml"
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    st.sampled_from(["", "kafka", "http", "local", "${NOT_SET}", "../../etc/passwd", "\0", "a" * 10_000]),
)
fuzz = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def filled() -> dict[str, Any]:
    """The embedded configuration, every ${NAME} filled in."""
    return tomllib.loads(variables.VARIABLE.sub("4242", EMBEDDED.read_text()))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in the document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inside for place in places(one, (*at, key)))]


@fuzz
@given(data=st.data())
def test_a_configuration_with_one_wrong_value_is_an_error_or_works(filled: dict[str, Any], data: st.DataObject) -> None:
    """Anything, anywhere: replaced, or taken away. What is accepted makes a stack."""
    document = tomllib.loads(variables.VARIABLE.sub("4242", EMBEDDED.read_text()))
    *way, last = data.draw(st.sampled_from([p for p in places(filled) if p]))
    at: Any = document
    for key in way:
        at = at[key]
    if data.draw(st.booleans()):
        del at[last]
    else:
        at[last] = data.draw(VALUES)
    told = []
    try:
        stack = Stack(reading.parse(document, {}, Path("gameday.toml")), State(Path("nowhere")))
    except GamedayError as e:
        told.append(f"{type(e).__name__}: {e}")
    else:
        for look in (lambda: stack.hops, lambda: list(stack.probes(archive=True)), stack.stops, lambda: stack.jobs):
            with contextlib.suppress(GamedayError):
                look()
    assert all("gameday.toml" in text for text in told)


@fuzz
@given(text=st.one_of(st.text(), st.binary().map(lambda b: b.decode("latin-1"))))
def test_a_file_of_anything_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    """Never TOML by luck, or then not a stack."""
    path = tmp_path / "gameday.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape" if text.isascii() else "replace")
    with pytest.raises(ConfigError, match=r"gameday\.toml"):
        reading.load(path, State(tmp_path))


KNOWN = (
    *("run", "history", "report", "list", "hold", "heal", "failpoints", "selftest", "new", "--all", "-p", "--json"),
    *("--variants", "broker_restart", "how=graceful", "--until", "8h", "--limit", "-1", "--dry-run", "--config", "/"),
)
WORDS = st.one_of(st.text(max_size=12), st.sampled_from(KNOWN))


@fuzz
@given(words=st.lists(WORDS, max_size=5))
def test_any_command_line_ends_with_a_known_code(
    words: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a stack: help, an answer, bad usage or nothing to ask; an exception would be a traceback at night."""
    nowhere = tmp_path_factory.mktemp("nowhere")
    if words and words[0] in ("up", "down", "selftest", "new"):
        return  # these do things
    for name, value in {"GAMEDAY_STATE": str(nowhere / "state"), "GAMEDAY_CONFIG": str(EMBEDDED)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["gameday", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code or 0) in (0, 2, 3)
