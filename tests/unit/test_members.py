"""Roles that several components have together: what gameday.toml says of them, whom a test strikes, which alert it asks
for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows import definitions
from gameday.errors import ConfigError
from gameday.faults.kill import Kill
from gameday.faults.pause import Pause
from gameday.plan import FailureTest, FiresWithin, Inject, OfRole
from gameday.stack.live import Stack, open_stack
from gameday.state import State
from tasks.definition import parameter_sets
from tests.fakes import COMPONENT, TOY

BROKERS = """
[hosts.local]
socket = "none"
[components.broker]
members = ["b1", "b2", "b3"]
[alerts]
driver = "prometheus"
url = "http://127.0.0.1:1"
labels = { broker = { job = "kafka" }, b3 = { job = "third" } }
roles = { broker = { crash = "BrokerDown" }, ingest = { hang = "IngestSilent" } }
[components.reader]
role = "ingest"
members = ["r1"]
[cursors.place]
driver = "kafka"
component = "reader"
brokers = "127.0.0.1:1"
group = "g"
topics = ["t"]
"""


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Stack]:
    """Three brokers, of which the first may not be broken, and a consumer; changed as the test has it."""

    def stack(*changes: tuple[str, str]) -> Stack:
        text = TOY.replace('"web"', '"broker"') + BROKERS
        for name in ("b1", "b2", "b3", "r1"):
            text += COMPONENT.format(role=name, opt_in=str(name != "b1").lower())
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "gameday.toml"
        path.write_text(text)
        return open_stack(path, State(tmp_path))

    return stack


def struck(test: FailureTest) -> list[str]:
    return [step.fault.component for step in test.plan if isinstance(step, Inject)]


@pytest.mark.parametrize(
    ("component", "members", "expected"),
    [
        ("broker", "one", ["b2"]),
        ("broker", "all", ["b2", "b3"]),
        ("b3", "all", ["b3"]),
    ],
)
def test_one_member_is_struck_or_each_that_opted_in(
    made: Callable[..., Stack], component: str, members: str, expected: list[str]
) -> None:
    """One that is named itself is struck alone."""
    stack = made()
    test = stack.resolved(definitions(stack.path)["crash"](component=component, members=members))
    assert struck(test) == expected
    assert not stack.misses(test)


def test_a_night_strikes_one_and_all_of_a_role_and_no_member_by_itself(made: Callable[..., Stack]) -> None:
    """Nor is there a lag of what no cursor names."""
    stack = made()
    tests = definitions(stack.path)
    both = [{"component": role, "members": which} for role in ("broker", "reader") for which in ("one", "all")]
    assert parameter_sets(tests["hang"], stack.config) == both
    assert parameter_sets(tests["lag"], stack.config) == [{"component": "reader", "cursor": "place"}]


def test_all_of_a_path_are_affected_by_each_member(made: Callable[..., Stack]) -> None:
    """The path names the role."""
    config = made().config
    assert [config.together(name) for name in ("b2", "r1", "broker")] == ["broker", "reader", None]
    assert [config.kind(name) for name in ("b2", "broker", "r1", "reader")] == ["broker", "broker", "ingest", "ingest"]


def test_the_alert_is_the_roles(made: Callable[..., Stack]) -> None:
    """Of a role that has none for what is done, or of which nothing is said, none is asked for."""
    stack = made()
    crash, hang = (
        FailureTest(plan=(Inject(fault),), mttr_max_s=1, checks=(), alert=OfRole(done))
        for fault, done in ((Kill("broker"), "crash"), (Pause("broker"), "hang"))
    )
    assert stack.resolved(crash).alert == FiresWithin("BrokerDown", 300.0)
    assert stack.resolved(hang).alert == OfRole("hang")
    assert [stack.alert_labels(name) for name in ("b2", "b3", "r1")] == [
        {"job": "kafka"},
        {"job": "third"},
        {"component": "r1"},
    ]


def test_a_consumer_is_held_back_only_where_its_log_can_be_asked(made: Callable[..., Stack]) -> None:
    """A place that tells nothing of what its log keeps is what the test lacks."""
    stack = made()
    lag = definitions(stack.path)["lag"]
    assert not stack.misses(lag(component="reader", cursor="place"))
    assert stack.misses(lag(component="reader", cursor="other")) == ["stack toy has no cursor 'other'"]
    with pytest.raises(ConfigError, match=r"how=cut needs a link of reader\. Remedy: -p link=NAME"):
        lag(component="reader", cursor="place", how="cut")
    kafka = 'driver = "kafka"\ncomponent = "reader"\nbrokers = "127.0.0.1:1"\ngroup = "g"\ntopics = ["t"]\n'
    slot = 'driver = "postgres"\ncomponent = "reader"\ndsn = "postgresql://nobody@127.0.0.1:1/none"\nslot = "s"\n'
    silent = made((kafka, slot))
    assert silent.misses(lag(component="reader", cursor="place")) == ["cursor place can't tell what its log keeps"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('["b1", "b2", "b3"]', '["b1", "b9"]', r"components\.broker\.members names 'b9', but there is no"),
        ('["b1", "b2", "b3"]', '["b1", "r1"]', r"'r1' is a member twice"),
        ('["b1", "b2", "b3"]', "[]", r"components\.broker\.members: tuple should have at least 1 item"),
        ('["b1", "b2", "b3"]', '["b1"]\nhost = "local"', r"components\.broker\.host is no key .*Known: members, role"),
        ('component = "reader"', 'component = "writer"', r"cursors\.place\.component is 'writer', but there is no"),
        ("ingest = { hang", "sink = { hang", r"alerts\.roles\.sink: no component has that role\. Known: broker"),
        ("[hosts.local]", "[roles.x]\n[hosts.local]", r"roles is no table\. Remedy: \[components\.NAME\] with members"),
    ],
)
def test_what_is_wrong_with_members_is_told_with_its_key(
    made: Callable[..., Stack], old: str, new: str, told: str
) -> None:
    """Each with what would be right."""
    with pytest.raises(ConfigError, match=told):
        made((old, new))
