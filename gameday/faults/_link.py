"""What the faults of a link share: they are known by what the link's host shows, and proved from the victim's side.

A proof compares two ways to the same server: through the link, as the victim goes, and past it (vantage.py). Before the
act the two are alike: a link through which nobody was reached proves nothing.
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
"""Until a server that is reached reacts, on a machine that has other things to do too."""

REACTIONS = (ANSWERS, HANGS_UP, RESETS)
"""What a server does that was reached, to noise."""


@dataclass(frozen=True)
class LinkFault:
    """component: the end that is struck. link: its name in gameday.toml."""

    component: str
    link: str
    needs: ClassVar[tuple[type, ...]] = (Shape,)
    undo: ClassVar[str] = "take the toxic away"

    def host(self, stack: Reach) -> Shape:
        return stack.link_host(self.link)  # type: ignore[return-value]  # needs: Shape

    def state(self, stack: Reach) -> Mapping[str, Json]:
        """What the host shows of the link now."""
        links = self.host(stack).links()
        if self.link not in links:
            raise GamedayError(f"there is no link {self.link!r}. Its host has {', '.join(sorted(links)) or 'none'}")
        state: Mapping[str, Json] = links[self.link]
        return state

    def reaction_s(self, stack: Reach, address: str) -> float | None:
        """As Shape has it."""
        return self.host(stack).reaction_s(address)

    def before(self, stack: Reach) -> Json:
        """Where the link leads. Raises when it isn't whole, or nobody is reached through it: then what follows could
        not be told from what was there."""
        state = self.state(stack)
        if not state["enabled"] or state["toxics"]:
            raise GamedayError(f"link {self.link} is cut or distorted already. Remedy: gameday heal, gameday status")
        listen, upstream = state["listen"], state["upstream"]
        host, seen = self.host(stack), ["", ""]

        def reached() -> bool:
            seen[0] = host.manner(listen)
            if seen[0] == ANSWERS:
                return True
            seen[1] = host.manner(upstream)  # it may be the link itself that hangs up
            return seen[0] in REACTIONS and seen[1] in REACTIONS and seen[1] != ANSWERS

        try:
            until(reached, REACHED_WITHIN_S, every_s=0.1, what="a reaction through the link")
        except TooLate:
            raise GamedayError(
                f"nobody is reached through link {self.link} as it is, so its harm could not be told from that: "
                f"through it {listen} {seen[0]}, past it {upstream} {seen[1]}. Remedy: gameday status; where only the "
                f"link's clients reach it, a vantage point (hosts.*.vantage)"
            ) from None
        return {"listen": listen, "upstream": upstream, "manner": seen[0], "key": uuid.uuid4().hex[:8]}

    def unserved(self, stack: Reach, before: Json) -> str | None:
        """Whether the server that reacts past the link is reached through it again. A link that somebody else cut,
        distorted or removed meanwhile is not this undo's."""
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
    """A fault that is one toxic in each of `streams`, under names that are this act's own: its undo takes no other."""

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
        there = {t["name"] for t in self.state(stack)["toxics"]}
        return there >= {self._name(stream, before) for stream in self.streams}

    def heal(self, stack: Reach, before: Json) -> None:
        for stream in self.streams:
            self.host(stack).restore(self.link, self._name(stream, before))

    def _name(self, stream: str, before: Json) -> str:
        """Without a key: of an act that was journalled before names had one."""
        return "-".join(filter(None, ("gameday", self.toxic, stream, before.get("key"))))
