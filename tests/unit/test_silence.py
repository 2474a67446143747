"""A silence over an alert: prolonged while its run lives, and over by itself when it doesn't."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pytest

from gameday.errors import DriverError
from gameday.system.polling import until
from gameday.telling.silence import LOOK_S, Silence

LASTS_S = 0.3
SLOW_S = 30.0
"""As in a run: prolonged every ten seconds, looked for more than twice a second."""

LABELS = {"component": "broker"}


class Alertmanager:
    """Notes what it is asked; `away`: answers nothing."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.ended: list[str] = []
        self.away = False
        self.lost = False
        self.made = 0

    def state(self, alert: str, labels: Mapping[str, str]) -> Mapping[str, float]:
        raise NotImplementedError

    def unlike(self, alert: str, labels: Mapping[str, str]) -> str | None:
        raise NotImplementedError

    def firing(self) -> Sequence[tuple[str, Mapping[str, str]]]:
        raise NotImplementedError

    def silence(self, alert: str, labels: Mapping[str, str], for_s: float, known: str | None, why: str) -> str | None:
        assert (alert, labels, for_s) in [("BrokerDown", LABELS, lasts_s) for lasts_s in (LASTS_S, SLOW_S)]
        if self.away:
            raise DriverError("away", definite=True)
        self.asked.append(known)
        if known is None or self.lost:
            self.lost, self.made = False, self.made + 1
        return f"s{self.made}"

    def silenced(self, known: str) -> bool:
        if self.away:
            raise DriverError("away", definite=True)
        return not self.lost and known == f"s{self.made}"

    def unsilence(self, known: str) -> None:
        self.ended.append(known)


def made(manager: Alertmanager) -> Silence:
    return Silence(manager, "BrokerDown", LABELS, "a test", lasts_s=LASTS_S)


def test_it_is_prolonged_under_its_id_until_it_is_ended() -> None:
    """One silence, not one after the other; and none is made again by a renewal that comes after the end."""
    manager = Alertmanager()
    silence = made(manager)
    until(lambda: len(manager.asked) > 3, within_s=10, what="renewals")
    silence.end()
    known = len(manager.asked)
    assert manager.asked[:2] == [None, "s1"]
    assert manager.ended == ["s1"]
    silence._over.wait(LASTS_S)
    assert len(manager.asked) == known


def test_a_renewal_that_fails_is_made_up_for() -> None:
    """Alertmanager may restart within a run."""
    manager = Alertmanager()
    silence = made(manager)
    manager.away = True
    known = len(manager.asked)
    silence._over.wait(LASTS_S)
    manager.away = False
    until(lambda: len(manager.asked) > known, within_s=10, what="a renewal")
    silence.end()


def test_a_silence_that_is_gone_is_there_again_within_a_second() -> None:
    """An Alertmanager that was killed has forgotten it: it is made anew long before it would be prolonged, and for how
    long it was absent is told."""
    manager = Alertmanager()
    silence = Silence(manager, "BrokerDown", LABELS, "a test", lasts_s=SLOW_S)
    assert silence.absent_s == 0.0
    lost_s = time.monotonic()
    manager.lost = True
    until(lambda: not manager.lost, within_s=1.0, what="the silence to be there again")
    back_s = time.monotonic()
    until(lambda: not silence._lost, within_s=10, what="it to be seen")
    seen_s = time.monotonic()
    assert (manager.asked, silence.id) == ([None, "s1"], "s2")
    assert back_s - lost_s < silence.absent_s < seen_s - lost_s + LOOK_S + 0.2
    assert silence.absent_s == silence.absent_s
    silence.end()
    assert manager.ended == ["s2"]


def test_an_alertmanager_that_is_away_and_has_kept_it_was_silenced_throughout() -> None:
    """While nobody answers nobody is paged; what it has forgotten meanwhile counts from when it was last seen."""
    manager = Alertmanager()
    silence = Silence(manager, "BrokerDown", LABELS, "a test", lasts_s=SLOW_S)
    manager.away = True
    silence._over.wait(2 * LOOK_S)
    manager.away = False
    silence._over.wait(2 * LOOK_S)
    assert (silence.absent_s, manager.asked) == (0.0, [None])
    manager.away, manager.lost = True, True
    silence._over.wait(2 * LOOK_S)
    manager.away = False
    until(lambda: silence.id == "s2" and not silence._lost, within_s=10, what="it to be seen")
    assert silence.absent_s > 2 * LOOK_S
    silence.end()


def test_a_silence_that_lapses_is_not_ended() -> None:
    """What is still broken then pages, once the time is over."""
    manager = Alertmanager()
    made(manager).lapse()
    assert manager.ended == []


def test_without_alertmanager_it_can_t_be_made() -> None:
    """The run must not break anything then."""
    manager = Alertmanager()
    manager.away = True
    with pytest.raises(DriverError, match="away"):
        made(manager)
