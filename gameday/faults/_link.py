"""What the faults of a link share: they are known by what the link's host shows, and proved from the victim's side.

A proof compares two ways to the same server: through the link, as the victim goes, and past it (vantage.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from gameday.errors import GamedayError
from gameday.model import Json
from gameday.ports import Shape

if TYPE_CHECKING:
    from gameday.stack import Stack

__all__ = ["Distortion", "LinkFault"]


@dataclass(frozen=True)
class LinkFault:
    """component: the end that is struck. link: its name in gameday.toml."""

    component: str
    link: str
    needs: ClassVar[tuple[type, ...]] = (Shape,)
    undo: ClassVar[str] = "take the toxic away"

    def host(self, stack: Stack) -> Shape:
        return stack.named_host(stack.link(self.link).host)  # type: ignore[return-value]  # needs: Shape

    def state(self, stack: Stack) -> Mapping[str, Json]:
        """What the host shows of the link now."""
        links = self.host(stack).links()
        if self.link not in links:
            raise GamedayError(f"there is no link {self.link!r}. Its host has {', '.join(sorted(links)) or 'none'}")
        state: Mapping[str, Json] = links[self.link]
        return state

    def reaction_s(self, stack: Stack, address: str) -> float | None:
        """As Shape has it."""
        return self.host(stack).reaction_s(address)

    def before(self, stack: Stack) -> Json:
        """Where the link leads. Raises when it isn't whole: then what follows could not be told from what was there."""
        state = self.state(stack)
        if not state["enabled"] or state["toxics"]:
            raise GamedayError(f"link {self.link} is cut or distorted already. Remedy: gameday heal, gameday status")
        return {"listen": state["listen"], "upstream": state["upstream"]}


@dataclass(frozen=True)
class Distortion(LinkFault):
    """A fault that is one toxic in each of `streams`, under names that are always the same."""

    toxic: ClassVar[str]
    streams: ClassVar[tuple[str, ...]] = ("upstream", "downstream")

    @property
    def attributes(self) -> Mapping[str, Json]:
        raise NotImplementedError

    def act(self, stack: Stack, before: Json, act_id: str) -> None:
        for stream in self.streams:
            self.host(stack).distort(self.link, self._name(stream), self.toxic, stream, self.attributes)

    def holds(self, stack: Stack, before: Json) -> bool:
        """Whether all its toxics are there."""
        return {t["name"] for t in self.state(stack)["toxics"]} >= {self._name(stream) for stream in self.streams}

    def heal(self, stack: Stack, before: Json) -> None:
        for stream in self.streams:
            self.host(stack).restore(self.link, self._name(stream))

    def _name(self, stream: str) -> str:
        return f"gameday-{self.toxic}-{stream}"
