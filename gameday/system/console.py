"""What this process prints, and that nothing hangs on it: no verdict, no exit code and no undo depends on who watches.

After `tolerate` a write to stdout or stderr never raises, whatever became of the terminal, the pipe or the disk behind
it, and any text can be written in any encoding. Inside `impatient` it never waits either. What is said is the callers'.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import select
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

__all__ = ["impatient", "lost", "tolerate"]

ESCAPED = "gameday.escaped"
"""The error handler of the standard streams: what an encoding lacks is written as JSON escapes it."""

PATIENCE_S = 1.0
"""How long an impatient line waits for a reader that doesn't read; the lines after it wait no more."""

LOOK_EVERY_S = 0.1
"""A terminal that is read again does not wake whoever polls it."""

PIECE_BYTES = 4096
"""A pipe that poll calls writable takes so much without blocking (PIPE_BUF)."""

KEPT_BYTES_MAX = 1 << 20
"""What is kept for a reader that doesn't read; more than any night prints."""

_impatient = 0
_streams: list[_Stream] = []


def tolerate() -> None:
    """Make this process's stdout and stderr such that nothing written there raises. Idempotent.

    The streams are changed in place: whoever holds one already (a logging handler, a console) is covered too. Streams
    that somebody has put in their place stay as they are.
    """
    for descriptor in range(3):  # one that is closed would be the next file's that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and all(known.text is not stream for known in _streams):
            _streams.append(_Stream(stream))


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Inside this block a reader that doesn't read (a stopped terminal, a pager) holds nothing up: what it doesn't
    take is kept, and written when it reads again, at the latest after the block."""
    global _impatient
    _impatient += 1
    try:
        yield
    finally:
        _impatient -= 1


def lost() -> list[str]:
    """What could not be printed, a sentence for each stream. A reader that went away on purpose (`| head`) lost
    nothing."""
    return [
        f"{stream.name} could not be written: {stream.trouble}"
        for stream in _streams
        if stream.trouble is not None and stream.trouble != os.strerror(errno.EPIPE)
    ]


class _Stream:
    """Takes over `write` and `flush` of one text stream; bytes go to its descriptor without another buffer."""

    def __init__(self, text: TextIO) -> None:
        self.text = text
        self.name = str(getattr(text, "name", "the output")).strip("<>")
        self.trouble: str | None = None
        self._descriptor = text.fileno()
        self._encoding = text.encoding
        self._waiting = bytearray()
        self._stalled = False
        self._lock = threading.RLock()
        with contextlib.suppress(OSError, ValueError):
            text.flush()
            text.reconfigure(errors=ESCAPED)  # type: ignore[attr-defined]  # the standard streams are TextIOWrapper
        text.write, text.flush = self.write, self.flush  # type: ignore[method-assign]

    def write(self, text: str) -> int:
        data = text.encode(self._encoding, ESCAPED)
        with self._lock:
            if len(self._waiting) + len(data) > KEPT_BYTES_MAX and self._stalled:
                self.trouble = "nobody read it"
            else:
                self._waiting += data
            if "\n" in text or len(self._waiting) > PIECE_BYTES:
                self._push()
        return len(text)

    def flush(self) -> None:
        with self._lock:
            self._push()

    def _push(self) -> None:
        """Write what is waiting, as far as it is taken."""
        try:
            while self._waiting:
                if _impatient and not self._taken(0.0 if self._stalled else PATIENCE_S):
                    return
                try:
                    written = os.write(self._descriptor, self._waiting[:PIECE_BYTES])
                except BlockingIOError:  # somebody else has made it non-blocking
                    self._taken(LOOK_EVERY_S)
                else:
                    del self._waiting[:written]
        except OSError as e:
            self.trouble = e.strerror or type(e).__name__
            self._waiting.clear()

    def _taken(self, within_s: float) -> bool:
        """Whether it can be written without waiting, by then."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        self._stalled = not poll.poll(within_s * 1000)
        return not self._stalled


def _escape(error: UnicodeError) -> tuple[str, int]:
    """The characters as JSON escapes them, half a surrogate pair as itself: valid inside a JSON text, and readable."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


codecs.register_error(ESCAPED, _escape)
