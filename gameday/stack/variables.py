"""Fills in ${NAME} in a gameday.toml from the environment. In the user and password of an address it is
percent-encoded, so that a password may have any characters."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from gameday.errors import ConfigError
from gameday.system import address

__all__ = ["VARIABLE", "fill", "revealed", "told_unset"]

VARIABLE = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")

USERINFO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/@]*)@")
"""Matches an address's user and password, before anything is filled in."""

BLOCK = re.compile(r"\$\{prefect:([A-Za-z0-9_-]+)\}")
"""A secret that Prefect keeps. It is allowed only in settings for messages to people, because healing must need no
server."""

TELLING = ("channels", "prefect.alert_url")
"""The settings whose secrets may be missing until they are used: a missing chat token must not stop a heal."""

UNSET_SHOWN_MAX, UNSET_EXPORTED_MAX = 3, 12
"""How many keys with an unset ${NAME} an error shows, and how many names it says to export."""


def revealed(value: Any, secret: Callable[[str], str], where: str) -> Any:
    """Return a channel's setting as its driver takes it: secrets as plain text, Prefect's blocks filled in by `secret`.

    Raises:
        ConfigError: a ${NAME} is not set.
    """
    if isinstance(value, dict):
        return {key: revealed(item, secret, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [revealed(item, secret, where) for item in value]
    if not isinstance(value, SecretStr):
        return value
    text = value.get_secret_value()
    if missing := VARIABLE.search(text):
        raise ConfigError(f"{where} needs ${{{missing[1]}}}, which is not set. Remedy: export {missing[1]}=…")
    filled = _replaced(BLOCK, text, lambda match: secret(match[1]))
    for why in _no_address(filled):
        raise ConfigError(f"{where} {why}")
    return filled


def fill(
    value: Any, env: Mapping[str, str], at: tuple[str, ...], wrong: list[tuple[str, str]], unset: dict[str, str]
) -> Any:
    """Replace ${NAME} in every string.

    wrong: gets (place, mistake) for each mistake; such a value becomes empty, because it may hold a secret.
    unset: gets each NAME that has no value.
    """
    where = ".".join(at)
    if isinstance(value, dict):
        wrong += [(where or "a name", why) for key in value for why in _unknown(key)]
        return {k: fill(v, env, (*at, k), wrong, unset) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(v, env, at, wrong, unset) for v in value]
    if not isinstance(value, str):
        return value

    told = where.startswith(TELLING)
    mistakes = _unknown(value)
    if (block := BLOCK.search(value)) and not told:
        mistakes.append(
            f"refers to Prefect's block {block[1]!r}, which only {' and '.join(TELLING)} may: what mends a stack must "
            "not need Prefect. Remedy: ${NAME} from the environment"
        )
    missing = [name for name in VARIABLE.findall(value) if name not in env and not told]
    for name in missing:
        unset.setdefault(name, where)
    filled = _replaced(VARIABLE, value, lambda match: env.get(match[1]))
    later = told and (BLOCK.search(value) or VARIABLE.search(filled))  # `revealed` fills it in later
    if not mistakes and not missing and not later:
        mistakes += _no_address(filled)
    wrong += [(where, why) for why in mistakes]
    return "" if mistakes else filled


def told_unset(places: Mapping[str, str]) -> str:
    """Return, in words, the names that must be exported and the first keys that need them. places: NAME -> where."""
    by_place: dict[str, list[str]] = {}
    for name, where in places.items():
        by_place.setdefault(where, []).append(f"${{{name}}}")
    shown = list(by_place.items())[:UNSET_SHOWN_MAX]
    needed = [f"{where} needs {' and '.join(names)}" for where, names in shown]
    if more := len(places) - sum(len(names) for _, names in shown):
        needed.append(f"and there are {more} more")
    exports = " ".join(f"{name}=…" for name in places) if len(places) <= UNSET_EXPORTED_MAX else "each of them"
    verb = "is" if len(places) == 1 else "are"
    return f"{', '.join(needed)}, which {verb} not set. Remedy: gameday up (embedded stack), or export {exports}"


def _replaced(pattern: re.Pattern[str], text: str, value: Callable[[re.Match[str]], str | None]) -> str:
    """Return the text with each match replaced, percent-encoded in an address's user or password. value: returns the
    replacement; None: the match stays."""
    login = USERINFO.match(text)
    end = login.end(1) if login else 0

    def one(match: re.Match[str]) -> str:
        found = value(match)
        if found is None:
            return match[0]
        return address.encoded(found) if match.start() < end else found

    return pattern.sub(one, text)


def _unknown(text: str) -> list[str]:
    """Return the ${…} of a form that isn't filled in. Left as it is, it would become part of an address or name."""
    rest = BLOCK.sub("", VARIABLE.sub("", text))
    if "${" not in rest:
        return []
    form = re.match(r"\$\{[^}]*\}?", rest[rest.index("${") :])
    return [
        f"has {form[0] if form else rest!r}, which gameday doesn't fill in. Remedy: ${{NAME}}, of capitals, digits and "
        "_, with a value in the environment; there are no defaults"
    ]


def _no_address(text: str) -> list[str]:
    """Return why a text that begins like an address is none."""
    if not address.looks_like_one(text):
        return []
    try:
        address.of(text)
    except ValueError as e:
        return [
            f"is {address.hidden(text)!r}, which is no address: {e}. Remedy: percent-encode what is special in its "
            "user and password (# is %23), or let ${NAME} stand for them there: that is encoded as it is filled in"
        ]
    return []
