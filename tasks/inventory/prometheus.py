"""A Prometheus' alerting rules, and where it sends alerts. An answer of another shape raises as Python does."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from gameday.errors import DriverError
from gameday.stack.init.seen import Rule, Rules
from gameday.system.http import Unanswered, ask

__all__ = ["prometheus"]

ASK_WITHIN_S = 5.0
RULES_MAX = 100


def prometheus(url: str) -> Rules:
    """Raises DriverError where it doesn't answer."""
    url = url.rstrip("/")
    groups = _ask(url, "/api/v1/rules?type=alert")["groups"]
    rules = [
        Rule(str(rule["name"]), {str(k): str(v) for k, v in rule.get("labels", {}).items()}, str(rule["query"]))
        for group in groups
        for rule in group["rules"]
    ]
    managers = _ask(url, "/api/v1/alertmanagers").get("activeAlertmanagers") or []
    manager = str(managers[0]["url"]).partition("/api/")[0] if managers else ""
    return Rules(url, rules[:RULES_MAX], manager)


def _ask(url: str, path: str) -> Any:
    try:
        answer = ask("GET", f"{url}{path}", ASK_WITHIN_S)
        body = json.loads(answer.body)
        if answer.status != HTTPStatus.OK or body.get("status") != "success":
            raise DriverError(f"Prometheus at {url} answered {answer.status}: {answer.body[:200]!r}", definite=True)
        return body["data"]
    except Unanswered as e:
        raise DriverError(f"Prometheus at {url}: {e}", definite=True) from e
