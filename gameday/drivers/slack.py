"""Sends messages to a Slack channel with slack-sdk: chat.postMessage with Block Kit. A night's details go into the
thread below its message.

What comes from the platform is escaped, so that it mentions nobody and links nowhere, and cut to Slack's limits.
"""

from __future__ import annotations

import http.client
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import SecretStr
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError

from gameday.drivers._post import again_s, web_address
from gameday.errors import Undelivered
from gameday.model import Json, Message, Verdict
from gameday.system.tls import PLAIN, Tls, context, refused

__all__ = ["Channel", "blocks", "escaped", "fallback"]

BLOCKS_MAX, SECTION_CHARACTERS_MAX = 50, 3_000
"""Slack's."""

TEXT_CHARACTERS_MAX = 3_000
"""Slack asks for less than 4,000 in a message's own text, which notifications show."""

FACT_CHARACTERS_MAX = 1_500
"""So that one long fact leaves room for the others; the report has all of it."""

MARKS = {Verdict.PASS: "✅", Verdict.SKIPPED: "➖", Verdict.UNKNOWN: "❔", Verdict.INVALID: "⚠️", Verdict.FAIL: "❌"}

ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
ENTITY_CHARACTERS_MAX = 5

ILL_FORMED = frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"})
"""Errors about the blocks alone: the text is then sent without them."""

REFUSED = frozenset({"msg_too_long", "no_text", "invalid_arguments", "cannot_reply_to_message", "thread_not_found"})
"""Errors about this message. All others are about the token or the channel, which a person can mend."""

REMEDIES = {
    "not_in_channel": "invite the bot into the channel",
    "channel_not_found": "the channel's id, and the bot invited into it",
    "missing_scope": "give the bot the scope chat:write",
}

SILENT = logging.getLogger("gameday.slack")
SILENT.setLevel(logging.CRITICAL + 1)
"""slack-sdk's logger, silenced: the courier reports each failure."""


@dataclass(frozen=True)
class Channel:
    """token: a bot's (xoxb-…) with chat:write. channel: the channel's id (C…)."""

    token: SecretStr
    channel: str
    base_url: str = WebClient.BASE_URL
    tls: Tls = PLAIN
    takes: ClassVar[frozenset[str]] = frozenset({"announce", "fail", "night", "detail"})

    def __post_init__(self) -> None:
        web_address(self.base_url, "base_url")

    def send(self, message: Message, below: str | None, within_s: float) -> str | None:
        """Send one message. Return its timestamp, which identifies its thread."""
        try:
            return self._post(message, below, within_s, blocks(message))
        except _IllFormed:
            return self._post(message, below, within_s, None)

    def _post(self, message: Message, below: str | None, within_s: float, shown: Json) -> str:
        client = WebClient(
            self.token.get_secret_value(),
            base_url=f"{self.base_url.rstrip('/')}/",
            timeout=max(1, round(within_s)),
            ssl=context(self.tls),
            retry_handlers=[],  # they sleep as long as the server asks; the courier must not wait so long
            logger=SILENT,
        )
        try:
            answer = client.chat_postMessage(
                channel=self.channel,
                text=fallback(message),
                blocks=shown,
                thread_ts=below,
                unfurl_links=False,
                unfurl_media=False,
            )
        except SlackApiError as e:
            raise _undelivered(e.response, whole=shown is None) from None
        except (OSError, http.client.HTTPException, SlackClientError, ValueError) as e:
            raise Undelivered(f"Slack does not answer: {_why(e)}") from None
        return str(answer["ts"])


def _why(error: Exception) -> str:
    """Say why there was no answer. If the error isn't the operating system's, give only its type: it may quote the
    token."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "timed out"
    known = reason.strerror if isinstance(reason, OSError) else None
    return (isinstance(reason, Exception) and refused(reason)) or known or type(reason).__name__


class _IllFormed(Undelivered):
    """Slack refuses the blocks."""


def blocks(message: Message) -> list[Json]:
    """Return title and text, then the facts, then the links."""
    mark = "" if message.verdict is None else f"{MARKS[message.verdict]} "
    title = f"{mark}*{_cut(escaped(message.title), 200)}*"
    lines = [f"*{escaped(name)}:* {_cut(escaped(value), FACT_CHARACTERS_MAX)}" for name, value in message.facts]
    sections = list(_packed([f"{title}\n{_cut(escaped(message.text), SECTION_CHARACTERS_MAX - 300)}", *lines]))
    shown = [_text("section", part) for part in sections[: BLOCKS_MAX - 1]]
    if message.links:
        told = " · ".join(_link(label, url) for label, url in message.links)
        shown.append({"type": "context", "elements": [_mrkdwn(told[:SECTION_CHARACTERS_MAX])]})
    return shown


def fallback(message: Message) -> str:
    """Return the text for notifications and screen readers."""
    return _cut(f"{escaped(message.title)}: {escaped(message.text)}", TEXT_CHARACTERS_MAX)


def escaped(text: str) -> str:
    """Write Slack's three control characters as entities: the text can't mention anybody, link, or call a channel."""
    return text.translate(ENTITIES)


def _cut(text: str, most: int) -> str:
    """Cut escaped text to at most so many UTF-16 units, never inside an entity."""
    if _units(text) <= most:
        return text
    pieces: list[str] = []
    left = most - 2
    for piece in re.findall("&(?:amp|lt|gt);|.", text[: most + ENTITY_CHARACTERS_MAX], re.DOTALL):
        left -= _units(piece)
        if left < 0:
            break
        pieces.append(piece)
    return f"{''.join(pieces)} …"


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _packed(lines: Sequence[str]) -> Iterator[str]:
    """Pack the lines into as few sections as hold them."""
    section = ""
    for line in lines:
        if section and _units(section) + 1 + _units(line) > SECTION_CHARACTERS_MAX:
            yield section
            section = ""
        section = f"{section}\n{line}" if section else line
    yield section


def _link(label: str, url: str) -> str:
    if not url.startswith(("http://", "https://")):
        return f"{escaped(label)}: `{escaped(url).replace('`', '')}`"
    return f"<{escaped(quote(url, safe=':/?#[]@!$&()*+,;=%~-._'))}|{escaped(label)}>"


def _text(kind: str, text: str) -> Json:
    return {"type": kind, "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> Json:
    """Return a text object. verbatim: Slack makes no mentions and links of names and addresses in it."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _undelivered(answer: Any, whole: bool) -> Undelivered:
    """Return the error that Slack's answer means. whole: it was sent without blocks already."""
    bare = isinstance(answer, dict)  # slack-sdk gives what isn't JSON as it came
    status, headers = (answer["status"], answer["headers"]) if bare else (answer.status_code, answer.headers)
    headers = {name.lower(): value for name, value in headers.items()}
    code = "" if bare else re.sub("[^a-z_]", "", str(answer.get("error", "")))[:60]
    if status == 429 or code in ("ratelimited", "rate_limited"):
        return Undelivered("Slack asks to wait", again_s=again_s(headers.get("retry-after")))
    if code in ILL_FORMED and not whole:
        return _IllFormed(f"Slack refuses: {code}")
    if code:
        remedy = REMEDIES.get(code, "check the channel's token") if code not in REFUSED else "none: it is given up"
        return Undelivered(f"Slack refuses: {code}. Remedy: {remedy}", refused=code in REFUSED | ILL_FORMED)
    return Undelivered(f"Slack answered {status}")
