"""The records of a table as SQL, and pieces of SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gameday.model import Tally

__all__ = [
    "NO_SURPLUS",
    "Bounds",
    "Number",
    "Shape",
    "Surplus",
    "array",
    "as_texts",
    "either",
    "figures_of",
    "fitting",
    "literal",
    "misfitting",
    "same",
    "without",
]

WITHIN = "`within its bounds`"
"""A name in a query: one that a column has too would stand for it in the query's conditions."""

MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Shape:
    """The records of a table, as SQL: the group's values, the id, the hashes of key and row, whether a row's values fit
    their types (None: any do), each field's canonical value, the text that says which values don't fit, and the words
    of each field. casts: whether what `fits` asks about is more than a column, and may fail on a value."""

    groups: tuple[str, ...]
    id: str
    key: str
    row: str
    fits: str | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    unfit: str = "''"
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    casts: bool = False


@dataclass(frozen=True)
class Surplus:
    """What repeated keys add to a group's sums.

    rows: rows beyond one a key. sum: of their row hashes. conflicts: keys whose rows differ. key_sum: of the keys of
    these rows.
    """

    rows: int
    sum: int
    conflicts: int
    key_sum: int


NO_SURPLUS = Surplus(0, 0, 0, 0)


@dataclass(frozen=True)
class Number:
    """What windows go by, as SQL of an integer. column: the same of a column that is a time; None: it is none."""

    sql: str
    column: str | None = None


@dataclass(frozen=True)
class Bounds:
    """A window as SQL. range: what belongs to the stream, between the lowest and the highest bound of all groups. own:
    the record is within its own group's bounds; "": `range` says so already. wide: whether at least half of the ids up
    to the highest are in the window."""

    range: str
    own: str = ""
    wide: bool = False

    @property
    def inside(self) -> str:
        return f"{self.range} AND {self.own}" if self.own else self.range


def figures_of(shape: Shape) -> list[tuple[str, str]]:
    """Aggregates and what they are of. Sums of UInt64 wrap."""
    return [("min", shape.id), ("max", shape.id), ("sum", shape.row), ("sum", shape.key)]


def array(values: Iterable[str], kind: str) -> str:
    """An array as one literal, which the server reads in a fraction of the time that ten thousand take."""
    return f"CAST({literal('[' + ','.join(values) + ']')} AS Array({kind}))"


def as_texts(groups: Sequence[str]) -> list[str]:
    """The texts of a group's values: a FixedString's without its padding."""
    return [f"toString({sql})" for sql in groups]


def fitting(shape: Shape, where: str) -> str:
    """The condition of rows whose values fit their types."""
    return _also(shape, where, shape.fits) if shape.fits else where


def misfitting(shape: Shape, where: str) -> str:
    """The condition of rows with a value that doesn't fit its type."""
    return _also(shape, where, f"NOT ({shape.fits or 'true'})")


def _also(shape: Shape, where: str, fits: str) -> str:
    """Both conditions. The server looks at them in any order; what may fail on a value is asked of no other rows."""
    return f"(({where}) AS {WITHIN}) AND if({WITHIN}, {fits}, false)" if shape.casts else f"({where}) AND {fits}"


def without(tally: Tally, surplus: Surplus) -> Tally:
    """The tally without what repeated keys added. Its rows stay: they are all there."""
    return replace(
        tally,
        keys=tally.rows - surplus.rows,
        sum=(tally.sum - surplus.sum) & MASK,
        conflicts=surplus.conflicts,
        key_sum=((tally.key_sum or 0) - surplus.key_sum) & MASK,
    )


def either(conditions: Iterable[str]) -> str:
    return " OR ".join(conditions) or "false"


def same(column: str, text: str) -> str:
    return f"{column} = {literal(text)}"


def literal(text: str) -> str:
    """A string of ClickHouse's SQL, whatever is in it: what comes from outside is written no other way."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
