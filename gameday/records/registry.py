"""A schema registry as messages refer to it: the frame before an encoded record, and the schema of each number.

The API is Confluent's, which others speak too (Karapace, Redpanda). Of it two questions are asked, each schema once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gameday.errors import DriverError
from gameday.records.types import Malformed
from gameday.system import address
from gameday.system.http import Unanswered, ask
from gameday.system.tls import Tls

__all__ = ["Reference", "Registry", "Schema", "Schemas", "unframed"]

ANSWER_WITHIN_S = 5.0

FRAME_BYTES = 5
"""A zero, and the schema's number."""

UNKNOWN_FOR_S = 10.0
"""A number that the registry doesn't know is not asked for again meanwhile: a message that is none may come a thousand
times."""

REFERENCES_MAX = 1_000
"""Schemas that one schema refers to, through others too."""

NO_SUCH_SCHEMA = 40403
"""The API's word, which a 404 of a wrong address hasn't."""


class Registry(BaseModel):
    """The table `registry` of a hop. url: with user and password, if it asks for them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    url: Annotated[str, Field(min_length=1), AfterValidator(address.http)]
    ca: str = ""
    certificate: str = ""
    key: str = ""


class Reference(NamedTuple):
    """A schema that another one imports: by which name, and where the registry has it."""

    name: str
    subject: str
    version: int


class Schema(NamedTuple):
    """kind: AVRO, PROTOBUF or JSON."""

    kind: str
    text: str
    references: Sequence[Reference]


@dataclass
class Schemas:
    """The schemas of one registry, remembered."""

    registry: Registry
    _known: dict[str, Schema] = field(default_factory=dict)
    _unknown: dict[str, float] = field(default_factory=dict)

    def of(self, number: int) -> Schema:
        """The schema of a number. Raises Malformed for one that the registry has not, DriverError where it can't be
        asked: then nobody can tell whether the message is well-formed."""
        return self._asked(f"/schemas/ids/{number}", f"schema {number} is not in the registry")

    def referred(self, schema: Schema) -> Mapping[str, Schema]:
        """Name -> each schema that this one imports, through others too; those that import nothing first."""
        found: dict[str, Schema] = {}
        self._gather(schema, found, ())
        return found

    def _gather(self, schema: Schema, found: dict[str, Schema], above: tuple[str, ...]) -> None:
        for name, subject, version in schema.references:
            if name not in found and name not in above:
                if len(found) + len(above) >= REFERENCES_MAX:
                    raise self._failed(f"a schema refers to more than {REFERENCES_MAX} others")
                where = f"/subjects/{quote(subject, safe='')}/versions/{version}"
                imported = self._asked(where, f"{subject} {version}, which a schema refers to, is not in the registry")
                self._gather(imported, found, (*above, name))
                found[name] = imported

    def _asked(self, where: str, missing: str) -> Schema:
        if where in self._known:
            return self._known[where]
        if time.monotonic() < self._unknown.get(where, 0.0):
            raise Malformed(missing)
        tls = Tls(self.registry.ca, self.registry.certificate, self.registry.key)
        # a schema of Protobuf comes as its compiled descriptor then; the text of others is what it is
        url = f"{self.registry.url.rstrip('/')}{where}?format=serialized"
        try:
            status, body, _ = ask("GET", url, ANSWER_WITHIN_S, headers={"Accept": "application/json"}, tls=tls)
        except Unanswered as e:
            raise self._failed(str(e)) from e
        told = self._parsed(body) if status in (200, 404) else None
        if status == 404 and told is not None and told.get("error_code") == NO_SUCH_SCHEMA:
            self._unknown[where] = time.monotonic() + UNKNOWN_FOR_S
            raise Malformed(missing)
        if status != 200 or told is None or not isinstance(told.get("schema"), str):
            raise self._failed(f"{where} is answered with {status}: {body[:100].decode(errors='replace')!r}")
        references = [Reference(str(r["name"]), str(r["subject"]), int(r["version"])) for r in _references(told)]
        self._known[where] = Schema(str(told.get("schemaType") or "AVRO"), told["schema"], references)
        return self._known[where]

    def _parsed(self, body: bytes) -> dict[str, Any] | None:
        try:
            told = json.loads(body)
        except ValueError:
            return None
        return told if isinstance(told, dict) else None

    def _failed(self, why: str) -> DriverError:
        return DriverError(f"schema registry {address.hidden(self.registry.url)}: {why}", definite=True)


def _references(told: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return told.get("references") or ()


def unframed(raw: bytes) -> tuple[int, bytes]:
    """The number of its schema, and the encoded record."""
    if len(raw) < FRAME_BYTES or raw[0] != 0:
        raise Malformed(f"{raw[:12]!r} doesn't begin as a message with the number of its schema: a zero and four bytes")
    return int.from_bytes(raw[1:FRAME_BYTES], "big"), raw[FRAME_BYTES:]
