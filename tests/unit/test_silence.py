"""A silence over an alert: prolonged while its run lives, and over by itself when it doesn't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from gameday.errors import DriverError
from gameday.polling import until
from gameday.silence import Silence

LASTS_S = 0.3
LABELS = {"component": "broker"}


class Alertmanager:
    """Notes what it is asked; `away`: answers nothing."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        self.ended: list[str] = []
        self.away = False

    def state(self, alert: str, labels: Mapping[str, str]) -> Mapping[str, float]:
        raise NotImplementedError

    def unlike(self, alert: str, labels: Mapping[str, str]) -> str | None:
        raise NotImplementedError

    def firing(self) -> Sequence[tuple[str, Mapping[str, str]]]:
        raise NotImplementedError

    def silence(self, alert: str, labels: Mapping[str, str], for_s: float, known: str | None, why: str) -> str | None:
        assert (alert, labels, for_s) == ("BrokerDown", LABELS, LASTS_S)
        if self.away:
            raise DriverError("away", definite=True)
        self.asked.append(known)
        return known or "s1"

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
