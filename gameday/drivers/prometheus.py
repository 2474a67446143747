"""Reads Prometheus' alerts, and makes silences at its Alertmanager, through their HTTP APIs. It configures neither: the
rules, routes and receivers are the platform's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from gameday.errors import DriverError
from gameday.model import ELSEWHERE, FIRING, INACTIVE, PENDING, Json
from gameday.stack.config import Http
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls

__all__ = ["Alerts"]

RULES = "/api/v1/rules?type=alert"
SILENCES = "/api/v2/silences"
STATES: Mapping[str, float] = {"inactive": INACTIVE, "pending": PENDING, "firing": FIRING}

TEMPLATE = "{{"
"""A rule's label whose value has this is filled in when the alert is active."""

BEGINS_IN_MS = 100
"""A silence begins so much later than now. If its beginning is past, Alertmanager puts its own time there, finer than
its API shows; and prolonging a silence takes its exact beginning."""


@dataclass(frozen=True)
class Alerts:
    """url: Prometheus', http://host:port. alertmanager: the same; empty: nothing is silenced. tls: for both."""

    url: Http
    timeout_s: float
    alertmanager: Http = ""
    tls: Tls = PLAIN

    def state(self, alert: str, labels: Mapping[str, str]) -> Mapping[str, float]:
        """Return the alert's state. If several rules have this name, it is the worst state and the oldest judgement."""
        rules = self._named(alert)
        for rule in rules:
            if rule["health"] != "ok":
                why = rule.get("lastError") or f"its health is {rule['health']!r}"
                raise DriverError(f"Prometheus at {self.url} can't judge {alert}: {why}", definite=True)
        active = [(STATES[a["state"]], a["labels"]) for rule in rules for a in rule["alerts"]]
        mine = [state for state, its in active if labels.items() <= its.items()]
        evaluated = min(datetime.fromisoformat(rule["lastEvaluation"]).timestamp() for rule in rules)
        others = {
            f"{ELSEWHERE}{_shown({name: its.get(name, '') for name in labels})}": state
            for state, its in active
            if state > INACTIVE and not labels.items() <= its.items()
        }
        return {"": max(mine, default=INACTIVE), ".evaluated": evaluated, **others}

    def unlike(self, alert: str, labels: Mapping[str, str]) -> str | None:
        rules = [rule["labels"] for rule in self._named(alert)]
        fixed = [{n: its[n] for n in labels if n in its and TEMPLATE not in its[n]} for its in rules]
        if any(its.items() <= labels.items() for its in fixed):
            return None
        return f"its rule says {' or '.join(map(_shown, fixed))}"

    def firing(self) -> Sequence[tuple[str, Mapping[str, str]]]:
        """Return (name, labels) of every alert that fires."""
        return [(r["name"], a["labels"]) for r in self._rules() for a in r["alerts"] if a["state"] == "firing"]

    def silence(self, alert: str, labels: Mapping[str, str], for_s: float, known: str | None, why: str) -> str | None:
        """Make or prolong a silence and return its id. Prolonging may give a new id; the old silence has ended then."""
        if not self.alertmanager:
            return None
        now = datetime.now(UTC)
        begins = _stamp(now + timedelta(milliseconds=BEGINS_IN_MS))
        wanted: Json = {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True}
                for name, value in {"alertname": alert, **labels}.items()
            ],
            "endsAt": _stamp(now + timedelta(seconds=for_s)),
            "createdBy": "gameday",
            "comment": why,
        }
        if known is not None:
            was = self._ask("GET", self.alertmanager, f"/api/v2/silence/{known}", fine=(404,))
            if was.get("status", {}).get("state") in ("active", "pending"):
                wanted["id"], begins = known, was["startsAt"]
        return str(self._ask("POST", self.alertmanager, SILENCES, {**wanted, "startsAt": begins})["silenceID"])

    def silenced(self, known: str) -> bool:
        """Whether the silence is in force: not one that Alertmanager has lost, that is over, or that has not begun."""
        was = self._ask("GET", self.alertmanager, f"/api/v2/silence/{known}", fine=(404,))
        return bool(was.get("status", {}).get("state") == "active")

    def unsilence(self, known: str) -> None:
        """End a silence. One that is over, or that Alertmanager has lost, is no error."""
        was = self._ask("GET", self.alertmanager, f"/api/v2/silence/{known}", fine=(404,))
        if was.get("status", {}).get("state") in ("active", "pending"):
            self._ask("DELETE", self.alertmanager, f"/api/v2/silence/{known}")

    def _named(self, alert: str) -> Sequence[Mapping[str, Any]]:
        """Return the rules of this name, at least one."""
        rules = [rule for rule in self._rules() if rule["name"] == alert]
        if not rules:
            raise DriverError(
                f"Prometheus at {self.url} has no alerting rule {alert!r}. Remedy: add it, or say under [alerts.names] "
                f"what it is called",
                definite=True,
            )
        return rules

    def _rules(self) -> Iterator[Mapping[str, Any]]:
        for group in self._ask("GET", self.url, RULES)["data"]["groups"]:
            yield from group["rules"]

    def _ask(self, method: str, url: str, path: str, body: Json = None, fine: tuple[int, ...] = ()) -> Any:
        """Return the answer's JSON; {} if it is empty or its status is one of `fine`. Each piece of the answer may take
        timeout_s, all of it twice as long."""
        what, looks = f"{method} {url}{path}", method == "GET"
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            answer = ask(
                method, f"{url.rstrip('/')}{path}", 2 * self.timeout_s, patience_s=self.timeout_s,
                body=content, headers=headers, tls=self.tls,
            )  # fmt: skip
            if answer.status in fine:
                return {}
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise DriverError(
                    f"{what} answered {answer.status}: {answer.body[:200]!r}", definite=answer.status < 500
                )
            return json.loads(answer.body) if answer.body else {}
        except (Unanswered, ValueError) as e:
            raise DriverError(f"{what}: {e}", definite=looks) from e


def _shown(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value or '(none)'}" for name, value in labels.items())


def _stamp(at: datetime) -> str:
    """Format a time as Alertmanager's API does, to the millisecond."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
