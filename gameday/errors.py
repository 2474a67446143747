"""The errors that gameday raises on purpose. Each names the thing, its value and the remedy; none tells a password."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = [
    "HIDDEN",
    "Busy",
    "ConfigError",
    "DriverError",
    "GamedayError",
    "NotUp",
    "TooLate",
    "Undelivered",
    "masked",
]

HIDDEN = "***"

WORD = re.compile(r"\S+")

NAMED = re.compile(r"\b((?:ssl)?password|passwd)=(?:'(?:[^'\\]|\\.)*'|[^\s&]*)", re.IGNORECASE)
"""A password in libpq's other form, or among an address's parameters."""


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """The text as it may be shown: without the passwords in its addresses, and without these secrets.

    The only place that hides them: every GamedayError goes through it, and so does what is logged of other errors.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = WORD.sub(lambda word: _without_login(word[0]), text)
    return NAMED.sub(rf"\1={HIDDEN}", text)


def _without_login(word: str) -> str:
    """Up to its last @: what may be a password is rather hidden too far than not far enough."""
    before, _, rest = word.partition("://")
    login, at, host = rest.rpartition("@")
    if not at:
        return word
    user, colon, _ = login.partition(":")
    return f"{before}://{user}:{HIDDEN}@{host}" if colon and user else f"{before}://{HIDDEN}@{host}"


class GamedayError(Exception):
    """Anything gameday can explain. `exit_code` is what the command line ends with (design: 2 usage, 3 no verdict)."""

    exit_code = 3

    def __init__(self, message: str = "") -> None:
        super().__init__(masked(message))


class ConfigError(GamedayError):
    """Bad usage or configuration: nothing was touched."""

    exit_code = 2


class NotUp(GamedayError):
    """The stack, or a server that gameday itself needs, does not answer."""


class TooLate(GamedayError):
    """A state did not come within its bound."""


class Busy(GamedayError):
    """Another run holds the stack."""


class DriverError(GamedayError):
    """A server refused, failed or did not answer.

    `definite` is True when the request certainly had no effect (refused, rejected before it was applied) and False when
    it may have had one (timed out, connection lost after sending); the distinction is Jepsen's :fail and :info.
    """

    def __init__(self, message: str, *, definite: bool) -> None:
        super().__init__(message)
        self.definite = definite


class RolledBack(DriverError):
    """A table no longer leads to a commit that was its newest one: somebody has taken back what was committed."""


class Undelivered(GamedayError):
    """A channel did not take a message, as far as can be told: it may be there all the same.

    again_s: when the channel asks to be tried again. refused: it will never take this message, but perhaps another.
    """

    def __init__(self, message: str, *, again_s: float | None = None, refused: bool = False) -> None:
        super().__init__(message)
        self.again_s = again_s
        self.refused = refused
