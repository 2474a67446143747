"""Delivers messages to channels. Writes each durably first, then tries it for a bounded time, and again at each run.

outbox/<night>.jsonl holds one JSON object a line:
  message  channels, message                    deliver the message to these channels
  failed   id, channel, at_us, why, again_us    try again, not before again_us
  sent     id, channel, at_us, ref              ref: the channel's own name of it, which messages below it refer to
  dropped  id, channel, at_us, why              given up
A message may arrive twice (when the channel's answer was lost), but it is not forgotten before its until_us. Nothing
here changes a verdict.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from gameday import codec
from gameday.errors import GamedayError, TooLate, Undelivered
from gameday.model import Json, Message
from gameday.ports import Channel
from gameday.stack.live import Stack
from gameday.state import State
from gameday.system.polling import until

__all__ = ["ATTEMPT_S", "DELIVER_S", "NIGHT_DELIVER_S", "Courier", "Parcel", "parcels", "undelivered"]

DELIVER_S = 10.0
"""How long messages may delay a run, whatever the channels do."""

NIGHT_DELIVER_S = 30.0
"""The same for the messages at the end of a night: only the command's end waits for them."""

ATTEMPT_S = 5.0
"""How long one attempt waits for the channel's server."""

ATTEMPTS_MAX = 4
BACKOFF_S = 1.0
"""The waits are 1 s, 2 s and 4 s, unless the server says how long (Retry-After)."""

KEPT_S = 30 * 86_400.0
"""How long an outbox's file is kept. Its messages were sent or dropped long before."""

LOST_S = 86_400.0
"""How long `gameday status` shows a message that was given up."""


@dataclass(frozen=True)
class Parcel:
    """One message for one channel, and its state since at_us. why: what kept it from being delivered."""

    message: Message
    channel: str
    sent: bool = False
    dropped: bool = False
    ref: str | None = None
    why: str = ""
    at_us: int = 0
    again_us: int = 0

    @property
    def pending(self) -> bool:
        return not (self.sent or self.dropped)


class Courier:
    """Delivers messages to one stack's channels. secret: returns the value of a Prefect block by its name."""

    def __init__(self, stack: Stack, secret: Callable[[str], str]) -> None:
        self._stack = stack
        self._secret = secret
        self._folder = stack.state.outbox

    def told(self, night: str) -> list[Message]:
        """Return the messages that this night has put into its outbox."""
        return list({p.message.id: p.message for p in _read(self._folder / f"{night}.jsonl")}.values())

    def post(self, *messages: Message) -> None:
        """Write messages into the outbox, durably; `deliver` sends them. A message that is there already is not sent
        again. Raises GamedayError when the outbox can't be written."""
        for message in messages:
            takers = [name for name in self._stack.config.channels if message.kind in self._stack.channel_takes(name)]
            if takers:
                line = {"rec": "message", "channels": takers, "message": codec.encode(message)}
                _append(self._folder / f"{message.night}.jsonl", line)

    def deliver(self, within_s: float = DELIVER_S) -> list[str]:
        """Try all pending messages for within_s seconds, each channel in its own thread.

        Returns a line for each channel that has messages left, or has given one up. Never raises for what a channel
        does.
        """
        self._forget()
        began_us, deadline = _now_us(), time.monotonic() + within_s
        names = {p.channel for p in parcels(self._stack.state) if p.pending}
        carriers = {name: threading.Thread(target=self._carry, args=(name, deadline), daemon=True) for name in names}
        for carrier in carriers.values():
            carrier.start()
        for name, carrier in carriers.items():
            carrier.join(max(0.0, deadline - time.monotonic()))
            if carrier.is_alive():  # a server that drips renews every time-out: nothing waits for this thread any more
                self._note(name, f"no whole answer within {within_s:g} s")
        return undelivered(self._stack.state, began_us, names)

    # ---- one channel's thread ------------------------------------------------------------------------------

    def _carry(self, name: str, deadline: float) -> None:
        try:
            with _alone(self._folder / f"{name}.lock", deadline):
                channel = self._stack.channel(name, self._secret)
                waiting = [p for p in parcels(self._stack.state) if p.channel == name and p.pending]
                for parcel in sorted(waiting, key=lambda p: p.message.kind != "announce"):  # announcements can't wait
                    if not self._settle(channel, parcel, deadline):
                        return
        except GamedayError as e:
            self._note(name, str(e))
        except Exception as e:  # noqa: BLE001 - an unforeseen error's text may quote a secret: only its kind is kept
            self._note(name, f"failed with {type(e).__name__}")

    def _settle(self, channel: Channel, parcel: Parcel, deadline: float) -> bool:
        """Deliver one parcel or give it up. False: it stays, and the parcels behind it wait too."""
        message, over = parcel.message, threading.Event()
        if message.until_us < _now_us():
            return self._drop(parcel, f"too late: {parcel.why or 'it was never tried'}")
        below, lost = self._below(parcel)
        if lost:
            return self._drop(parcel, "the message that it belongs below was given up")
        wait_s = max(0.0, (parcel.again_us - _now_us()) / 1e6)
        for attempt in range(ATTEMPTS_MAX):
            left = deadline - time.monotonic()
            if wait_s >= left:
                return False
            over.wait(wait_s)
            try:
                ref = channel.send(message, below, min(ATTEMPT_S, max(0.1, deadline - time.monotonic())))
            except Undelivered as e:
                if e.refused:
                    return self._drop(parcel, str(e))
                wait_s = BACKOFF_S * 2**attempt if e.again_s is None else e.again_s
                again_us = 0 if e.again_s is None else _now_us() + int(e.again_s * 1e6)
                self._record(parcel, "failed", why=str(e), again_us=again_us)
            else:
                self._record(parcel, "sent", ref=ref)
                return True
        return False

    def _below(self, parcel: Parcel) -> tuple[str | None, bool]:
        """Return the channel's reference of the message that it belongs below, and whether that one was given up."""
        if parcel.message.below is None:
            return None, False
        night = _read(self._folder / f"{parcel.message.night}.jsonl")
        root = next((p for p in night if p.channel == parcel.channel and p.message.id == parcel.message.below), None)
        return (None, True) if root is None or root.dropped else (root.ref, False)

    # ---- the outbox ----------------------------------------------------------------------------------------

    def _drop(self, parcel: Parcel, why: str) -> bool:
        self._record(parcel, "dropped", why=why)
        return True

    def _note(self, name: str, why: str) -> None:
        """Record why this channel's first pending parcel is still there."""
        waiting = next((p for p in parcels(self._stack.state) if p.channel == name and p.pending), None)
        if waiting is not None:
            self._record(waiting, "failed", why=why, again_us=0)

    def _record(self, parcel: Parcel, rec: str, **more: Json) -> None:
        path = self._folder / f"{parcel.message.night}.jsonl"
        line = {"rec": rec, "id": parcel.message.id, "channel": parcel.channel, "at_us": _now_us(), **more}
        try:
            _append(path, line)
        except GamedayError:
            return  # a full disk: the message may be sent twice, nothing else depends on this record

    def _forget(self) -> None:
        for path in self._folder.glob("*.jsonl"):
            try:
                if time.time() - path.stat().st_mtime > KEPT_S:
                    path.unlink(missing_ok=True)
            except OSError:
                continue


def parcels(state: State) -> list[Parcel]:
    """Return everything in the outbox, oldest first."""
    return [parcel for path in sorted(state.outbox.glob("*.jsonl")) for parcel in _read(path)]


def undelivered(state: State, since_us: int | None = None, only: Collection[str] | None = None) -> list[str]:
    """Say in a line for each channel which messages it has left, and which were given up since since_us.

    since_us None: within LOST_S. only: these channels alone.
    """
    since_us = _now_us() - int(LOST_S * 1e6) if since_us is None else since_us
    chosen = [p for p in parcels(state) if only is None or p.channel in only]
    left = [p for p in chosen if p.pending]
    lost = [p for p in chosen if p.dropped and p.at_us >= since_us]
    names = dict.fromkeys(p.channel for p in (*left, *lost))
    lines = [(name, what, [p for p in some if p.channel == name]) for name in names for what, some in (
        ("not delivered, and tried again at the next run", left), ("given up", lost)
    )]  # fmt: skip
    return [_line(name, what, some) for name, what, some in lines if some]


def _line(name: str, what: str, some: Sequence[Parcel]) -> str:
    since = datetime.fromtimestamp(min(p.message.at_us for p in some) / 1e6, UTC)
    why = next((p.why for p in reversed(some) if p.why), "not tried yet")
    number = f"{len(some)} message{'s' if len(some) > 1 else ''}"
    return f"channel {name}: {number} {what} (the first of {since:%d %B %H:%M} UTC): {why}"


def _read(path: Path) -> list[Parcel]:
    """Return one night's parcels. Lines that can't be read are left out."""
    by_id: dict[tuple[str, str], Parcel] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return []
    for line in lines:
        try:
            _apply(json.loads(line), by_id)
        except (ValueError, KeyError, TypeError, GamedayError):
            continue  # empty, or torn by a crash
    return list(by_id.values())


def _apply(record: Mapping[str, Json], by_id: dict[tuple[str, str], Parcel]) -> None:
    """Add one record to the parcels, in place. Keys are (message's id, channel)."""
    if record["rec"] == "message":
        message = codec.decode(Message, record["message"])
        for name in record["channels"]:
            by_id.setdefault((message.id, name), Parcel(message, name))
        return
    key = (record["id"], record["channel"])
    match record["rec"]:
        case "failed":
            by_id[key] = replace(by_id[key], at_us=record["at_us"], why=record["why"], again_us=record["again_us"])
        case "sent":
            by_id[key] = replace(by_id[key], at_us=record["at_us"], sent=True, ref=record["ref"], why="")
        case "dropped":
            by_id[key] = replace(by_id[key], at_us=record["at_us"], dropped=True, why=record["why"])


def _append(path: Path, record: Mapping[str, Json]) -> None:
    """Write one record, durably. It begins with a line end, so that a line torn by a crash before it stays apart."""
    line = b"\n" + json.dumps(record, separators=(",", ":")).encode() + b"\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.write(file, line) != len(line):
                raise OSError(None, "no room for the whole record")
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as e:
        raise GamedayError(
            f"the outbox {path} can't be written: {e.strerror}, so nobody is told. Remedy: check space and rights there"
        ) from e


@contextmanager
def _alone(path: Path, deadline: float) -> Iterator[None]:
    """Let one thread of one process at a time send to a channel. Raises Undelivered when another one is not done."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:

        def locked() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        try:
            until(locked, max(0.0, deadline - time.monotonic()), every_s=0.05, what="who tells it now")
        except TooLate as e:
            raise Undelivered("another gameday process is sending to this channel, and is not done") from e
        yield
    finally:
        os.close(file)


def _now_us() -> int:
    return time.time_ns() // 1_000
