"""The journal: durable before the act, whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gameday.errors import GamedayError
from gameday.model import Act
from gameday.system.process import Process, boot_ns
from gameday.undo import journal as module
from gameday.undo.journal import Entry, Journal

ME = Process.me()


def entry(act_id: str = "r1-1", run: str = "r1", ttl_s: float = 60) -> Entry:
    act = Act(act_id, run, 5, 6, "fault", "stop", {"component": "web"}, {"identity": {"pid": 1}}, "guardian 1")
    return Entry(act, ME, ME, boot_ns() + int(ttl_s * 1e9))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def test_an_act_is_open_until_healed(journal: Journal) -> None:
    """Every record adds to its act; the healing closes it, and says by whom and why."""
    journal.begin(entry())
    assert journal.open_acts() == [entry().act]
    journal.done("r1-1", 7)
    journal.proved("r1-1", "pid 1 is gone")
    journal.healed("r1-1", 9, "r1", "the plan's heal")
    healed = dataclasses.replace(
        entry().act,
        done_ns=7,
        proof="pid 1 is gone",
        healed_ns=9,
        healed_by="r1",
        healed_why="the plan's heal",
    )
    assert journal.open_acts() == []
    assert journal.acts("r1") == (healed,)
    assert journal.acts("r2") == ()


def test_a_proof_of_an_earlier_version_is_read(journal: Journal, tmp_path: Path) -> None:
    """Its record was called "bit". A run of that version may have left an open act, which is mended all the same."""
    journal.begin(entry())
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"rec":"bit","id":"r1-1","proof":"pid 1 is gone"}\n')
    assert [act.proof for act in journal.open_acts()] == ["pid 1 is gone"]


def test_owner_guardian_and_deadline_come_back(journal: Journal) -> None:
    """Who may mend an act is in the journal, not in anyone's memory."""
    written = entry()
    journal.begin(written)
    assert journal.open_entries() == [written]


def test_the_first_healing_counts(journal: Journal) -> None:
    """A second hand can't claim what the first one did."""
    journal.begin(entry())
    journal.healed("r1-1", 9, "the reconciler", "its guardian was gone")
    journal.healed("r1-1", 10, "r1", "the plan's heal")
    assert journal.acts("r1")[0].healed_by == "the reconciler"


def test_who_undid_it_has_mended_it(journal: Journal) -> None:
    """Whoever sees first that it serves, and says so: someone else's undo never becomes the run's own."""
    journal.begin(entry())
    journal.undone("r1-1", 9, "someone else", "no longer in effect")
    assert [a.healed_ns for a in journal.open_acts()] == [None]
    journal.healed("r1-1", 9, "r1", "the end of the plan")
    journal.healed("r1-1", 9, "someone else", "no longer in effect")
    (act,) = journal.acts("r1")
    assert (act.healed_ns, act.healed_by, act.healed_why) == (9, "someone else", "no longer in effect")


def test_who_undid_it_once_more_has_mended_it(journal: Journal) -> None:
    """What a dead run has undone did not come to serve, and the reconciler started it again."""
    journal.begin(entry())
    journal.undone("r1-1", 9, "r1", "aborted")
    journal.healed("r1-1", 12, "the reconciler", "its guardian was gone")
    (act,) = journal.acts("r1")
    assert (act.undone_ns, act.healed_ns, act.healed_by) == (9, 12, "the reconciler")


def test_time_to_live_and_another_boot_expire(journal: Journal) -> None:
    """An act is past its time when its deadline has passed, or when the machine was started anew."""
    assert not entry(ttl_s=60).expired
    assert entry(ttl_s=-1).expired
    assert dataclasses.replace(entry(), owner=dataclasses.replace(ME, boot_id="another")).expired


def test_a_torn_last_line_is_ignored_and_cut_off(journal: Journal, tmp_path: Path) -> None:
    """What was never acknowledged does not exist, whatever part of it reached the disk."""
    path = tmp_path / "journal.jsonl"
    journal.begin(entry("r1-1"))
    first = path.read_bytes()
    journal.begin(entry("r1-2"))
    second = path.read_bytes()[len(first) :]
    for length in range(1, len(second)):
        path.write_bytes(first + second[:length])
        assert [a.id for a in journal.open_acts()] == ["r1-1"]
    journal.healed("r1-1", 9, "r1", "")
    assert journal.open_acts() == []
    assert journal.damaged() == []


def test_a_damaged_line_is_told_not_skipped(journal: Journal, tmp_path: Path) -> None:
    """The lines around a damaged one still count, and the damage has a number."""
    journal.begin(entry("r1-1"))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"rec":"act","id":"r1-2"\n[]\n{"rec":"act","id":"r1-2"}\n')
    journal.begin(entry("r1-3"))
    assert [a.id for a in journal.open_acts()] == ["r1-1", "r1-3"]
    assert journal.damaged() == [2, 3, 4]


def test_no_journal_means_nothing_open(journal: Journal) -> None:
    """A stack that nothing was ever done to has no journal."""
    assert journal.entries() == []
    assert not journal.rotate(Path("/nowhere"))


def test_records_of_many_writers_stay_whole(journal: Journal) -> None:
    """Guardian, reconciler and a person at a terminal may write at once."""

    def write(run: str) -> None:
        for i in range(20):
            journal.begin(entry(f"{run}-{i}", run))

    writers = [threading.Thread(target=write, args=(f"r{n}",)) for n in range(4)]
    for w in writers:
        w.start()
    for w in writers:
        w.join()
    assert len(journal.open_acts()) == 80
    assert journal.damaged() == []


@contextmanager
def small_files() -> Iterator[None]:
    """Files can't grow beyond 1000 bytes: what a full disk does, without filling one. Never while the test runner may
    write to a file of its own."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_no_room_is_an_error_and_leaves_nothing(journal: Journal, tmp_path: Path) -> None:
    """When the disk fills up in the middle of a record, none of it stays, and the act must not happen."""
    journal.begin(entry("r1-1"))
    journal.begin(entry("r1-2"))
    before = (tmp_path / "journal.jsonl").read_bytes()
    refused = pytest.raises(GamedayError, match=r"journal\.jsonl can't be written: .*Nothing is injected")
    with small_files(), refused:
        journal.begin(entry("r1-3"))
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A journal that can't be made stops the act."""
    with pytest.raises(GamedayError, match="can't be written"):
        Journal(tmp_path / "gone" / "journal.jsonl").begin(entry())


def test_is_private(journal: Journal, tmp_path: Path) -> None:
    """The journal is its owner's alone."""
    journal.begin(entry())
    assert (tmp_path / "journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_is_durable_before_begin_returns(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """File and, on creation, folder are fsynced; a failing fsync is an error and takes the record back."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal.begin(entry("r1-1"))
    assert len(synced) == 2
    journal.begin(entry("r1-2"))
    assert len(synced) == 3

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(GamedayError, match="Input/output error"):
        journal.begin(entry("r1-3"))
    assert [a.id for a in journal.open_acts()] == ["r1-1", "r1-2"]


def test_is_put_aside_only_when_large_and_nothing_is_open(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation never hides something that is broken."""
    aside = tmp_path / "journal.old.jsonl"
    journal.begin(entry())
    assert not journal.rotate(aside)
    monkeypatch.setattr(module, "ROTATE_BYTES", 100)
    assert not journal.rotate(aside)
    journal.healed("r1-1", 9, "r1", "")
    assert journal.rotate(aside)
    assert journal.entries() == []
    assert [json.loads(line)["rec"] for line in aside.read_text().splitlines()] == ["act", "healed"]


def test_survives_sigkill_of_its_writer(tmp_path: Path) -> None:
    """Whatever was acknowledged before a writer's death is there, and nothing else is damaged."""
    script = (
        "import sys, dataclasses; sys.path.insert(0, 'tests/unit')\n"
        "from pathlib import Path\n"
        "from test_journal import Journal, entry\n"
        f"j = Journal(Path({str(tmp_path)!r}) / 'journal.jsonl')\n"
        "for i in range(100000):\n"
        "    j.begin(entry(f'r-{i}')); print(i, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(30)]
        writer.kill()
    journal = Journal(tmp_path / "journal.jsonl")
    assert [a.id for a in journal.open_acts()][:30] == [f"r-{i}" for i in acknowledged]
    assert journal.damaged() == []
