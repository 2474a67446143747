"""The errors that gameday raises on purpose. Each names the thing, its value and the remedy, and hides passwords."""

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
    """Return the text without the passwords in its addresses, and without these secrets.

    No other function hides them: every GamedayError goes through this one, and so do logged texts of other errors.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, HIDDEN)
    if "://" in text:
        text = WORD.sub(lambda word: _without_login(word[0]), text)
    return NAMED.sub(rf"\1={HIDDEN}", text)


def _without_login(word: str) -> str:
    """Hide the password up to the last @ of the word: to hide too much does less harm than to hide too little."""
    before, _, rest = word.partition("://")
    login, at, host = rest.rpartition("@")
    if not at:
        return word
    user, colon, _ = login.partition(":")
    return f"{before}://{user}:{HIDDEN}@{host}" if colon and user else f"{before}://{HIDDEN}@{host}"


class GamedayError(Exception):
    """An error that gameday can explain. The command line ends with its `exit_code`: 2 bad usage, 3 no verdict."""

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
    """A table no longer leads to a commit that once was its newest: somebody has rolled it back."""


class Undelivered(GamedayError):
    """A channel did not take a message, or did not confirm it; the message may have arrived all the same.

    again_s: after how many seconds the channel wants the next try. refused: it will never take this message, but may
    take another.
    """

    def __init__(self, message: str, *, again_s: float | None = None, refused: bool = False) -> None:
        super().__init__(message)
        self.again_s = again_s
        self.refused = refused
