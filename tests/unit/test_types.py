"""What fits a type, and its canonical form: numbers scaled, times in microseconds, nothing rounded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gameday.records import columns
from gameday.records.hashing import row_hash, words
from gameday.records.types import INT64_MAX, INT64_MIN, NULL, Malformed, parse

DAY_US = 86_400_000_000


@pytest.mark.parametrize(
    ("kind", "value", "canonical"),
    [
        ("int", "-7", -7),
        ("decimal(8)", "007.10", 710_000_000),
        ("decimal(2)", "-.5", -50),
        ("decimal(2)", 3, 300),
        ("float(6)", 19.99, "1.99900e+01"),
        ("float(6)", "19.9900001", "1.99900e+01"),
        ("float(15)", -0.0, "0.00000000000000e+00"),
        ("float(15)", "NaN", "nan"),
        ("float(15)", "-Infinity", "-inf"),
        ("text", b"buy", "buy"),
        ("uuid", "00112233-4455-6677-8899-AABBCCDDEEFF", bytes.fromhex("00112233445566778899aabbccddeeff")),
        ("bool", "t", 1),
        ("bool", 0, 0),
        ("time", "1970-01-02T01:00:00.5+01:00", DAY_US + 500_000),
        ("time", "1970-01-02", None),
        ("time", "1970-01-02 00:00:00", DAY_US),
        ("time(s)", "86400.000001", DAY_US + 1),
        ("time(s)", 1764457200.123456, 1_764_457_200_123_456),
        ("time(ms)", 86_400_000, DAY_US),
        ("bytes", "AAE=", b"\x00\x01"),
        ("json", {"b": [1, None], "a": 1.50}, b'{"a":1.5,"b":[1,null]}'),
        ("json", '{"b":1}', b'{"b":1}'),
        ("json", {"at": datetime(2026, 1, 1), "raw": b"\x00"}, b'{"at":"2026-01-01T00:00:00Z","raw":"AA=="}'),
        ("time(ms)", datetime(1970, 1, 2, 0, 0, 0, 1, UTC), DAY_US + 1),
        ("time", datetime(1970, 1, 2), DAY_US),
        ("text", None, None),
    ],
    ids=str,
)
def test_a_value_has_one_canonical_form(kind: str, value: Any, canonical: Any) -> None:
    """However it came; None here for what is malformed."""
    if canonical is None and value is not None:
        with pytest.raises(Malformed, match="is no"):
            parse(kind).canonical(value)
    else:
        assert parse(kind).canonical(value) == canonical


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("int", True, "no whole number"),
        ("int", 7.0, "no whole number"),
        ("int", INT64_MAX + 1, "64 bits"),
        ("decimal(8)", 60000.25, "may have been rounded"),
        ("decimal(8)", "1.123456789", "more than 8 places"),
        ("decimal(8)", "99999999999999", "64 bits"),
        ("decimal(8)", "1e3", "no plain decimal"),
        ("float(6)", "1e999", "beyond"),
        ("float(6)", True, "no number"),
        ("text", 5, "no text"),
        ("text", b"\xff", "no UTF-8"),
        ("time", "2026-02-30T00:00:00Z", "no time between"),
        ("time", "2026-01-01T00:00:00.1234567Z", "no ISO time"),
        ("time(s)", "1.1234567", "more than 6 places"),
        ("bool", 2, "neither"),
        ("uuid", "0", "no UUID"),
        ("bytes", "?", "no base64"),
        ("json", "{", "no JSON"),
        ("json", {"a": object}, "no JSON"),
        ("time", datetime(1900, 12, 31), "no time between"),
        ("int", datetime(1970, 1, 2), "no whole number"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_malformed_and_says_why(kind: str, value: Any, why: str) -> None:
    """With the value and the type; it is never rounded."""
    with pytest.raises(Malformed, match=why) as told:
        parse(kind).canonical(value)
    assert str(told.value).endswith(f"({parse(kind)})")


@pytest.mark.parametrize("text", ["", "integer", "decimal", "decimal(19)", "float", "float(18)", "time(ns)", "int(8)"])
def test_an_unknown_type_is_told_what_there_is(text: str) -> None:
    """With how many digits a float needs."""
    with pytest.raises(ValueError, match=r"Remedy: one of int, decimal\(n\)"):
        parse(text)


@given(st.integers(INT64_MIN, INT64_MAX), st.integers(0, 18))
def test_a_decimal_is_shown_as_it_is_read(scaled: int, places: int) -> None:
    """And so is a time."""
    kind = parse(f"decimal({places})")
    assert kind.canonical(kind.shown(scaled)) == scaled
    assert parse(f"time({'us'})").shown(DAY_US) == "1970-01-02T00:00:00Z"


def test_null_is_a_word_of_its_own() -> None:
    """Not that of zero, of an empty text, or of false."""
    for kind, value in (("int", 0), ("text", ""), ("bool", False), ("bytes", b""), ("uuid", "0" * 32)):
        known = parse(kind)
        absent, present = (words(known, [known.canonical(v)]) for v in (None, value))
        assert all(int(word[0]) == NULL for word in absent)
        assert all(int(word[0]) != NULL for word in present)


def test_a_hash_goes_on_from_another() -> None:
    """A key's hash is the beginning of its row's."""
    one, two = np.arange(100_000), np.arange(100_000) * 7
    assert (row_hash([two], before=row_hash([one])) == row_hash([one, two])).all()


PLAIN = ["", "0", "-0", "007", "1.", "-1.5", ".5", "-.5", "-", "--1", "1-1", "1.2.3", "+1", "1e3", "1.-", " 1", "1\n2"]
PLAIN += ["9.12345678", "9.123456789", "1.000000000000", "1234567890.12345678", "12345678901.5", "1" * 18, "1" * 19]
PLAIN += ["\u0661"]


@pytest.mark.parametrize("kind", ["int", "decimal(0)", "decimal(2)", "decimal(8)", "decimal(18)"])
@given(values=st.lists(st.sampled_from(PLAIN), max_size=4))
def test_texts_of_numbers_are_the_same_all_at_once(kind: str, values: list[str]) -> None:
    """An array of what each is by itself; none where one of them is malformed."""
    of = parse(kind)
    try:
        each = [of.canonical(value) for value in values]
    except Malformed:
        assert columns.canonical(of, values) is None
        return
    found = columns.canonical(of, values)
    assert found is not None
    assert found.tolist() == each
