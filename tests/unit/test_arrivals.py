"""Records that have nothing but their key: a later hop has their time from the log."""

from __future__ import annotations

import numpy as np

from gameday.model import Columns
from gameday.records.arrivals import UNTOLD, Came, dated, with_time
from gameday.records.declaration import Stream, stream

A, B = ("a",), ("b",)


def requests() -> Stream:
    mistakes: list[str] = []
    places = {"hops": ["log", "lake"], "visible": "lake", "path": ["web"]}
    made = stream(
        "requests",
        {"key": ["id"], "group": ["tenant"], "fields": {"id": "int", "note": "text"}, **places},
        ["log", "lake"],
        mistakes,
    )
    assert made is not None, mistakes
    return made


REQUESTS = requests()


def columns(*ids: int, tenant: str = "a") -> Columns:
    texts = (np.array([text] * len(ids), dtype=object) for text in (tenant, "x"))
    return dict(zip(("tenant", "note"), texts, strict=True)) | {"id": np.array(ids, dtype=np.int64)}


def keys(*ids: int) -> list[int]:
    return REQUESTS.whole_key_hashes(columns(*ids)).tolist()


def came(whole: bool = True, hi: int = 900) -> Came:
    """Three of four are in the window, which ends at 900; the fourth was before it."""
    had = dict(zip(keys(1, 2, 3, 4), (700, 800, 900, 100), strict=True))
    return Came({key: at for key, at in had.items() if at > 600}, had, whole, {A: hi, B: hi})


def test_a_record_has_the_time_at_which_its_key_came() -> None:
    """One that came before the window is in none."""
    assert dated(REQUESTS, came(), columns(2, 4, 1)).tolist() == [800, UNTOLD, 700]
    told = with_time(REQUESTS, came(), columns(2, 4, 1))
    assert (told["id"].tolist(), told["$time"].tolist(), told["note"].tolist()) == ([2, 1], [800, 700], ["x", "x"])


def test_a_record_that_the_log_never_had_stands_at_the_window_s_end() -> None:
    """So that it is told. Where the log may have forgotten it, or of a group that the window hasn't, nothing is said of
    it; and it is not the newest of its group."""
    assert dated(REQUESTS, came(), columns(2, 77)).tolist() == [800, 900]
    assert dated(REQUESTS, came(whole=False), columns(2, 77)).tolist() == [800, UNTOLD]
    assert dated(REQUESTS, came(), columns(77, tenant="c")).tolist() == [UNTOLD]
    had = came().had
    assert dated(REQUESTS, Came(had, had, True, {}), columns(4, 77)).tolist() == [100, UNTOLD]
