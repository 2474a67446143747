"""The faults of a link against proxies in memory: what they demand before the act, and what their undo takes away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from gameday.errors import GamedayError
from gameday.faults.blackhole import Blackhole
from gameday.faults.latency import Latency
from gameday.faults.partition import Partition
from gameday.faults.reset import Reset
from gameday.faults.truncate import Truncate
from gameday.model import Json
from gameday.ports import Shape, UntilServed
from gameday.system.vantage import ANSWERS, HANGS_UP, REFUSES, RESETS, SILENT, UNASKED

LINK, LISTEN, UPSTREAM = "db-web", "127.0.0.1:2", "127.0.0.1:1"
DISTORTIONS: list[Any] = [Blackhole("web", LINK), Latency("web", LINK), Reset("web", LINK), Truncate("web", LINK)]
FAULTS: list[Any] = [Partition("web", LINK), *DISTORTIONS]


@dataclass
class Proxies:
    """One link in memory. through, past: the manner of its two ends."""

    through: str = ANSWERS
    past: str = ANSWERS
    enabled: bool = True
    toxics: dict[str, str] = field(default_factory=dict)

    def links(self) -> Mapping[str, Json]:
        toxics = [{"name": name, "type": kind} for name, kind in self.toxics.items()]
        return {LINK: {"listen": LISTEN, "upstream": UPSTREAM, "enabled": self.enabled, "toxics": toxics}}

    def cut(self, link: str) -> None:
        self.enabled, self.through = False, REFUSES

    def join(self, link: str) -> None:
        self.enabled, self.through = True, self.past

    def distort(self, link: str, name: str, kind: str, stream: str, attributes: Mapping[str, Json]) -> None:
        self.toxics[name] = kind

    def restore(self, link: str, name: str) -> None:
        self.toxics.pop(name, None)

    def reaction_s(self, address: str) -> float | None:
        return 0.001

    def manner(self, address: str) -> str:
        return self.through if address == LISTEN else self.past


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look is enough here."""
    monkeypatch.setattr("gameday.faults._link.REACHED_WITHIN_S", 0.0)


def stack_of(proxies: Proxies) -> Any:
    assert isinstance(proxies, Shape)
    return SimpleNamespace(link_host=lambda link: proxies)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__.lower())
@pytest.mark.parametrize(
    ("through", "past"),
    [
        (REFUSES, ANSWERS),  # nobody listens there: it was never in the way
        (SILENT, ANSWERS),
        (UNASKED, ANSWERS),  # the proxy takes the connection and reaches nobody
        (UNASKED, HANGS_UP),
        (HANGS_UP, ANSWERS),
        (HANGS_UP, REFUSES),  # past it nobody is seen from here: it can't be proved from here
        (HANGS_UP, SILENT),
    ],
)
def test_a_link_through_which_nobody_is_reached_is_not_struck(fault: Any, through: str, past: str) -> None:
    """Whatever it refuses afterwards, it did before: the cut of a proxy that was never in the way proves nothing."""
    with pytest.raises(GamedayError, match=rf"nobody is reached through link db-web as it is.*{through}.*{past}"):
        fault.before(stack_of(Proxies(through, past)))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__.lower())
@pytest.mark.parametrize(
    ("through", "past"), [(ANSWERS, ANSWERS), (ANSWERS, REFUSES), (HANGS_UP, HANGS_UP), (HANGS_UP, RESETS)]
)
def test_a_link_through_which_a_server_is_reached_may_be_struck(fault: Any, through: str, past: str) -> None:
    """Bytes that came through it are enough; a server that hangs up does so past the link too."""
    noted = fault.before(stack_of(Proxies(through, past)))
    assert (noted["listen"], noted["upstream"]) == (LISTEN, UPSTREAM)


def test_a_server_that_reacts_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without time left makes nobody unreachable."""
    monkeypatch.setattr("gameday.faults._link.REACHED_WITHIN_S", 10.0)
    proxies = Proxies()
    manners = iter([SILENT, SILENT, ANSWERS])
    proxies.manner = lambda address: next(manners)  # type: ignore[method-assign]
    assert Partition("web", LINK).before(stack_of(proxies))["manner"] == ANSWERS


def test_a_server_that_resets_by_itself_proves_no_reset() -> None:
    """A cut can be told from that, a reset can't."""
    stack = stack_of(Proxies(RESETS, RESETS))
    assert Partition("web", LINK).before(stack)
    with pytest.raises(GamedayError, match="resets connections as it is"):
        Reset("web", LINK).before(stack)


@pytest.mark.parametrize("fault", DISTORTIONS, ids=lambda f: type(f).__name__.lower())
def test_the_undo_takes_only_the_toxics_of_its_own_act(fault: Any) -> None:
    """What an operator added meanwhile stays, even of the same kind; and another act's."""
    proxies = Proxies()
    stack = stack_of(proxies)
    mine, other = fault.before(stack), fault.before(stack)
    fault.act(stack, mine, "r1-1")
    assert fault.holds(stack, mine)
    assert not fault.holds(stack, other)
    theirs = {"theirs": fault.toxic, f"gameday-{fault.toxic}-{fault.streams[0]}": fault.toxic}
    proxies.toxics |= theirs
    for _ in range(2):
        fault.heal(stack, other)
        assert fault.holds(stack, mine)
    for _ in range(2):
        fault.heal(stack, mine)
        assert proxies.toxics == theirs


def test_toxics_that_were_journalled_without_a_key_are_undone_too() -> None:
    """By the names that they had then."""
    proxies = Proxies(toxics={"gameday-latency-downstream": "latency"})
    Latency("web", LINK).heal(stack_of(proxies), {"listen": LISTEN, "upstream": UPSTREAM})
    assert proxies.toxics == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__.lower())
def test_what_somebody_else_does_to_the_link_is_not_this_undos(fault: Any) -> None:
    """Their cut, their toxic, their removal: ours is taken away, and that is all that there is to heal."""
    proxies = Proxies()
    stack = stack_of(proxies)
    before = fault.before(stack)
    proxies.cut(LINK)
    assert fault.unserved(stack, before) is None
    proxies.join(LINK)
    proxies.toxics, proxies.through = {"theirs": "timeout"}, SILENT
    assert fault.unserved(stack, before) is None
    proxies.links = dict  # type: ignore[method-assign]
    assert fault.unserved(stack, before) is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: type(f).__name__.lower())
@pytest.mark.parametrize(
    ("through", "past", "lacks"),
    [
        (ANSWERS, ANSWERS, False),
        (HANGS_UP, HANGS_UP, False),
        (REFUSES, ANSWERS, True),
        (REFUSES, REFUSES, True),
        (SILENT, ANSWERS, True),
        (UNASKED, HANGS_UP, True),
        (UNASKED, REFUSES, False),  # the server is away: that is not the link's
        (SILENT, SILENT, False),
    ],
)
def test_a_link_is_mended_when_its_server_is_reached_through_it(
    fault: Any, through: str, past: str, lacks: bool
) -> None:
    """Joined is not enough; what the server itself does not do, no link can."""
    proxies = Proxies()
    stack = stack_of(proxies)
    before = fault.before(stack)
    assert isinstance(fault, UntilServed)
    proxies.through, proxies.past = through, past
    told = fault.unserved(stack, before)
    assert (told is not None) is lacks
    assert told is None or (LINK in told and through in told)
