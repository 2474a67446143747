"""Debezium's change events: the envelope of one, and the types that its schema names.

A schema, in each message or in a registry, names what a number stands for, such as io.debezium.time.MicroTimestamp;
then the value is read as that. Without a schema it is read as the hop's `fields` say.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import orjson

from gameday.records.types import EPOCH, Malformed, decimal

__all__ = ["NAMED", "Envelopes", "deletes", "moment", "number", "row"]

Convert: TypeAlias = Callable[[Any], Any]

WRITES = ("c", "u", "r")
"""The operations that leave a row: created, updated, read in a snapshot."""

DELETE = "d"

NOT_SENT = b"__debezium_unavailable_value"
"""Stands for a large value of Postgres' that an update has not changed: the log doesn't have it."""
NOT_SENT_FORMS = (NOT_SENT.decode(), base64.b64encode(NOT_SENT).decode(), NOT_SENT)
NOT_SENT_MARKS = (NOT_SENT, base64.b64encode(NOT_SENT), b"\\u00")
"""One of them is in the bytes of each message that has such a value: letters may be written as numbers in JSON."""

SCHEMA, PAYLOAD = b'{"schema":', b',"payload":'
"""How Kafka Connect writes what is around a payload, without spaces."""

REMEMBERED_MAX = 16
"""Schemas of a topic in turn: a table's versions, and those of its keys."""

PLACES_MAX = 100
"""More than any database has; without a bound one message could fill the memory with zeros."""


class _NotSent:
    """No type takes it, so a field that is declared makes its record malformed, and no other does."""

    def __repr__(self) -> str:
        return "an unchanged large value, which Debezium didn't send,"


def row(event: Any) -> Any:
    """The row of a change event: as it is now, or of a deleted one as it was. None: it has none."""
    if not isinstance(event, dict):
        return None
    held = event.get("before" if event.get("op") == DELETE else "after")
    if isinstance(held, str):  # MongoDB's documents are JSON in a string
        try:
            held = orjson.loads(held)
        except orjson.JSONDecodeError:
            return None
    return held if event.get("op") in (*WRITES, DELETE) and isinstance(held, dict) else None


def deletes(event: Any) -> bool:
    """Whether a change event says that its row is gone."""
    return isinstance(event, dict) and event.get("op") == DELETE


def moment(count: int, per_s: int) -> datetime | str:
    """The time that lies so many units behind 1970. A text that no type takes for one that microseconds can't tell, or
    that is beyond every calendar, such as Postgres' infinity."""
    microseconds, rest = divmod(count * 1_000_000, per_s)
    try:
        if not rest:
            return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        pass
    return f"{count} of 1/{per_s} s behind 1970"


def number(unscaled: bytes, places: int) -> str:
    """A decimal, exact: an integer in two's complement, and how many of its digits are behind the point."""
    value = int.from_bytes(unscaled, "big", signed=True)
    return decimal(value, places) if places >= 0 else str(value * 10**-places)


def _zoned(text: Any) -> Any:
    """ISO text with a zone; with digits below a microsecond it stays a text, which says so."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return text
    digits = text.partition(".")[2].rstrip("Z").partition("+")[0].partition("-")[0].rstrip("0")
    return found.astimezone(UTC) if found.tzinfo and len(digits) <= 6 else text


def _time(per_s: int, seconds: int = 1) -> Convert:
    def convert(value: Any) -> Any:
        return moment(value * seconds, per_s) if type(value) is int else value

    return convert


def _variable(value: Any) -> Any:
    """A decimal that brings its scale."""
    try:
        return _number(value["value"], int(value["scale"]))
    except (KeyError, TypeError, ValueError):
        return value


def _number(value: Any, places: int) -> Any:
    """unscaled: bytes, or as JSON has them."""
    if abs(places) > PLACES_MAX:
        return value
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except binascii.Error:
            return value
    return number(value, places) if isinstance(value, bytes) else value


NAMED: Mapping[str, Convert] = {
    "io.debezium.time.Date": _time(1, 86_400),
    "io.debezium.time.Timestamp": _time(1_000),
    "io.debezium.time.MicroTimestamp": _time(1_000_000),
    "io.debezium.time.NanoTimestamp": _time(1_000_000_000),
    "io.debezium.time.ZonedTimestamp": _zoned,
    "io.debezium.data.VariableScaleDecimal": _variable,
    "org.apache.kafka.connect.data.Date": _time(1, 86_400),
    "org.apache.kafka.connect.data.Timestamp": _time(1_000),
}
"""A schema's name -> what its values are. Times of a day, durations and years stay the numbers that they are."""

DECIMAL = "org.apache.kafka.connect.data.Decimal"


class Envelopes:
    """Reads change events and their keys from JSON, with or without a schema in each message.

    Nine tenths of a message are its schema, byte for byte the same in all messages of one version of a table. So the
    bytes up to the payload are parsed once, and remembered; of a message that begins with them only the payload is.
    """

    def __init__(self) -> None:
        self._converted: dict[str, tuple[Any, Convert | None]] = {}
        self._before_payload: list[tuple[bytes, Convert | None]] = []

    def __call__(self, raw: bytes) -> Any:
        """The envelope, or a key's row, without what Kafka Connect wraps around it. Raises ValueError for no JSON."""
        known = self._known(raw)
        if known is None:
            return self._whole(raw)
        before, convert = known
        payload_raw = raw[len(before) : -1]
        try:
            payload = orjson.loads(payload_raw) if raw.endswith(b"}") else None
        except orjson.JSONDecodeError:  # there are more keys behind it
            payload = None
        if not isinstance(payload, dict):
            return self._whole(raw)
        return sent(payload if convert is None else convert(payload), payload_raw)

    def _known(self, raw: bytes) -> tuple[bytes, Convert | None] | None:
        """What stands before a message's payload, and what makes its values what they stand for. None: the message has
        another form than Kafka Connect's own."""
        for place, known in enumerate(self._before_payload):
            if raw.startswith(known[0]):
                if place:
                    self._before_payload.insert(0, self._before_payload.pop(place))
                return known
        if not raw.startswith(SCHEMA) or (end := raw.find(PAYLOAD)) < 0:
            return None
        try:
            schema = orjson.loads(raw[len(SCHEMA) : end])
            convert = self._of(schema) if isinstance(schema, dict) else None
        except (orjson.JSONDecodeError, Malformed):  # no end of the schema, or none of Kafka Connect's
            return None
        known = raw[: end + len(PAYLOAD)], convert
        self._before_payload = [known, *self._before_payload[: REMEMBERED_MAX - 1]]
        return known

    def _whole(self, raw: bytes) -> Any:
        """The same of a message of any form, all of which is parsed."""
        told = orjson.loads(raw)
        if not isinstance(told, dict) or "op" in told or not isinstance(payload := told.get("payload"), dict):
            return sent(told, raw)
        schema = told.get("schema")
        if isinstance(schema, dict) and (convert := self._of(schema)) is not None:
            payload = convert(payload)
        return sent(payload, raw)

    def _of(self, schema: Mapping[str, Any]) -> Convert | None:
        """Remembered: each message of a table brings the same one."""
        name = str(schema.get("name"))
        known = self._converted.get(name)
        if known is None or known[0] != schema:
            try:
                known = self._converted[name] = (schema, _convert(schema))
            except (AttributeError, TypeError, ValueError) as e:
                raise Malformed(f"its schema is none of Kafka Connect's ({e})") from None
        return known[1]


def sent(event: Any, raw: bytes) -> Any:
    """The event with a value that no type takes in the place of each that was not sent. raw: the message."""
    first, second, third = NOT_SENT_MARKS
    return _without(event) if first in raw or second in raw or third in raw else event


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(inner) for key, inner in value.items()}
    return _NotSent() if isinstance(value, str | bytes) and value in NOT_SENT_FORMS else value


def _convert(schema: Any) -> Convert | None:
    """What makes the values of a schema of Kafka Connect's what they stand for. None: they are that already."""
    if not isinstance(schema, dict):
        return None
    name = schema.get("name")
    if name == DECIMAL:
        places = int((schema.get("parameters") or {}).get("scale", 0))
        return lambda value: _number(value, places)
    if (named := NAMED.get(str(name))) is not None:
        return named
    if schema.get("type") == "struct":
        fields = {f.get("field"): convert for f in schema.get("fields") or () if (convert := _convert(f)) is not None}
        return _of_fields(fields) if fields else None
    inner = _convert(schema.get("items") if schema.get("type") == "array" else None)
    if inner is None:
        return None
    return lambda value: [inner(item) for item in value] if isinstance(value, list) else value


def _of_fields(fields: Mapping[Any, Convert]) -> Convert:
    """A struct's, in its place: nobody else has it."""

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for key, one in fields.items():
            if (held := value.get(key)) is not None:
                value[key] = one(held)
        return value

    return convert
