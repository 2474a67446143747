"""Makes printing safe: no verdict, no exit code and no undo depends on whether the output can be written.

After `tolerate` a write to stdout or stderr never raises, whatever happens to the terminal, the pipe or the disk behind
it, and any text can be written in any encoding. Inside `impatient` it does not wait for a reader either.
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

__all__ = ["gone", "impatient", "lost", "tolerate"]

ESCAPED = "gameday.escaped"
"""The error handler of the standard streams: it writes characters that the encoding lacks as JSON's escapes."""

PATIENCE_S = 1.0
"""How long the first line inside `impatient` waits for a reader that doesn't read. The lines after it don't wait."""

LOOK_EVERY_S = 0.1
"""poll is asked so often, because a terminal that is read again does not wake it."""

PIECE_BYTES = 4096
"""How much a pipe that poll calls writable takes without blocking (PIPE_BUF)."""

KEPT_BYTES_MAX = 1 << 20
"""How much is kept for a reader that doesn't read. More than any night prints."""

_impatient = 0
_streams: list[_Stream] = []


def tolerate() -> None:
    """Change this process's stdout and stderr so that no write to them raises. Idempotent.

    The streams are changed in place, so a logging handler or a console that holds one already is covered too. Streams
    that other code has put in their place stay as they are.
    """
    for descriptor in range(3):  # the next file that is opened would get the number of a closed one
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and all(known.text is not stream for known in _streams):
            _streams.append(_Stream(stream))


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """Inside this block don't wait for a reader that doesn't read (a stopped terminal, a pager).

    The output is kept, and written when it is read again, at the latest after the block.
    """
    global _impatient
    _impatient += 1
    try:
        yield
    finally:
        _impatient -= 1


def lost() -> list[str]:
    """Say which stream could not be written and why, one sentence each. A reader that went away on purpose (`| head`)
    doesn't count."""
    return [
        f"{stream.name} could not be written: {stream.trouble}"
        for stream in _streams
        if stream.trouble is not None and stream.trouble != os.strerror(errno.EPIPE)
    ]


def gone() -> bool:
    """Whether nobody reads any more what is printed (`| head`): what would print for ever may end."""
    return any(stream.text is sys.__stdout__ and stream.trouble == os.strerror(errno.EPIPE) for stream in _streams)


class _Stream:
    """Replaces `write` and `flush` of one text stream. Bytes go to its descriptor without another buffer."""

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
        """Write what is waiting, as far as the reader takes it."""
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
        """Wait until a write would not block. Says whether that was so within within_s."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        self._stalled = not poll.poll(within_s * 1000)
        return not self._stalled


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Write the characters as JSON's escapes, also half a surrogate pair: readable, and valid inside a JSON text."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


codecs.register_error(ESCAPED, _escape)
