"""Sends a POST for the channels that take one, and reads from its answer whether and when to try again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time

from gameday.errors import ConfigError, Undelivered
from gameday.model import Json
from gameday.system import address
from gameday.system.http import Unanswered, ask
from gameday.system.tls import PLAIN, Tls

__all__ = ["again_s", "post", "web_address"]

REFUSED = (400, 413, 415, 422)
"""This body will never be taken. Others of 4xx are about who asks, or where: a person can mend that."""


def post(what: str, url: str, body: Json, headers: Mapping[str, str], within_s: float, tls: Tls = PLAIN) -> None:
    """POST JSON; Undelivered unless the answer is 2xx. A redirect is none: following it would drop the body.

    what: the name in errors, which never tell the address: it may hold a secret.
    """
    sent = {**headers, "Content-Type": "application/json", "User-Agent": "gameday"}
    try:
        answer = ask("POST", url, within_s, body=json.dumps(body).encode(), headers=sent, tls=tls, proxied=True)
    except Unanswered as e:
        raise Undelivered(f"{what} does not answer: {e}") from None
    if not 200 <= answer.status < 300:
        raise Undelivered(
            f"{what} answered {answer.status}", again_s=again_s(answer.retry_after), refused=answer.status in REFUSED
        )


def again_s(retry_after: str | None) -> float | None:
    """Read Retry-After, seconds or an HTTP date, as seconds from now. None: it is absent or makes no sense."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def web_address(url: str, key: str) -> None:
    """Raise ConfigError unless this is an http(s) address. The message doesn't show it: it may hold a secret."""
    try:
        at = address.of(url)
    except ValueError:
        at = None
    if at is None or at.scheme not in ("http", "https") or not at.host:
        raise ConfigError(f"{key} is no HTTP address. Remedy: https://host/path")
