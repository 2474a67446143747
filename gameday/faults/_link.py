"""Has what the faults of a link share. The link's host shows whether a fault is in force; a proof asks as the victim.

A proof compares two ways to the same server: through the link, as the victim connects, and directly (vantage.py).
Before the act both must reach the server: else the proof could not tell the fault from what was there before.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from gameday.errors import GamedayError, TooLate
from gameday.model import Json
from gameday.ports import Reach, Shape
from gameday.system.polling import until
from gameday.system.vantage import ANSWERS, HANGS_UP, REFUSES, RESETS

__all__ = ["Distortion", "LinkFault"]

REACHED_WITHIN_S = 3.0
"""How long a server may take to react through the link, on a busy machine."""

REACTIONS = (ANSWERS, HANGS_UP, RESETS)
"""How a server that was reached reacts to bytes that it doesn't understand."""


@dataclass(frozen=True)
class LinkFault:
    """component: the end of the link that is struck. link: the link's name in gameday.toml."""

    component: str
    link: str
    needs: ClassVar[tuple[type, ...]] = (Shape,)
    undo: ClassVar[str] = "take the toxic away"

    def host(self, stack: Reach) -> Shape:
        return stack.link_host(self.link)  # type: ignore[return-value]  # needs: Shape

    def state(self, stack: Reach) -> Mapping[str, Json]:
        """Return what the host shows of the link now. Raises GamedayError when the host doesn't have it."""
        links = self.host(stack).links()
        if self.link not in links:
            raise GamedayError(f"there is no link {self.link!r}. Its host has {', '.join(sorted(links)) or 'none'}")
        state: Mapping[str, Json] = links[self.link]
        return state

    def reaction_s(self, stack: Reach, address: str) -> float | None:
        """The same as `Shape.reaction_s`."""
        return self.host(stack).reaction_s(address)

    def before(self, stack: Reach) -> Json:
        """Note where the link leads.

        Raises GamedayError when the link is cut or distorted already, or no server is reached through it: then the
        fault's effect could not be told from what was there before.
        """
        state = self.state(stack)
        if not state["enabled"] or state["toxics"]:
            raise GamedayError(f"link {self.link} is cut or distorted already. Remedy: gameday heal, gameday status")
        listen, upstream = state["listen"], state["upstream"]
        host, through, past = self.host(stack), "", ""

        def reached() -> bool:
            nonlocal through, past
            through = host.manner(listen)
            if through == ANSWERS:
                return True
            past = host.manner(upstream)  # it may be the link itself that hangs up
            return through in REACTIONS and past in REACTIONS and past != ANSWERS

        try:
            until(reached, REACHED_WITHIN_S, every_s=0.1, what="a reaction through the link")
        except TooLate:
            raise GamedayError(
                f"nobody is reached through link {self.link} as it is, so its harm could not be told from that: "
                f"through it {listen} {through}, past it {upstream} {past}. Remedy: gameday status; where only the "
                f"link's clients reach it, a vantage point (hosts.*.vantage)"
            ) from None
        return {"listen": listen, "upstream": upstream, "manner": through, "key": uuid.uuid4().hex[:8]}

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """Say when a server that is reached directly is not reached through the link. None: it is reached again.

        None too when somebody else has cut, distorted or removed the link meanwhile: this undo did not do that.
        """
        state = self.host(stack).links().get(self.link)
        if state is None or not state["enabled"] or state["toxics"]:
            return None
        listen, upstream = before["listen"], before["upstream"]
        through = self.host(stack).manner(listen)
        if through in REACTIONS or (through != REFUSES and self.host(stack).manner(upstream) not in REACTIONS):
            return None
        return f"link {self.link} is joined and does not serve: {listen} {through}"


@dataclass(frozen=True)
class Distortion(LinkFault):
    """A fault that is one toxic in each of `streams`. Their names are this act's alone: its undo removes no other."""

    toxic: ClassVar[str]
    streams: ClassVar[tuple[str, ...]] = ("upstream", "downstream")

    @property
    def attributes(self) -> Mapping[str, Json]:
        raise NotImplementedError

    def act(self, stack: Reach, before: Json, act_id: str) -> None:
        for stream in self.streams:
            self.host(stack).distort(self.link, self._name(stream, before), self.toxic, stream, self.attributes)

    def holds(self, stack: Reach, before: Json) -> bool:
        """Whether all its toxics are there."""
        toxics = {t["name"] for t in self.state(stack)["toxics"]}
        return toxics >= {self._name(stream, before) for stream in self.streams}

    def heal(self, stack: Reach, before: Json) -> None:
        for stream in self.streams:
            self.host(stack).restore(self.link, self._name(stream, before))

    def _name(self, stream: str, before: Json) -> str:
        """Name the toxic. An act that an earlier version journalled has no key in its name."""
        return "-".join(filter(None, ("gameday", self.toxic, stream, before.get("key"))))
