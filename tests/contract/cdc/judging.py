"""What gameday says of a target: the streams of compose/cdc/gameday.toml, on a tape that a test serves by itself."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gameday.model import Digest, Evidence, Json, Verdict, Window
from gameday.stack.live import Stack, open_stack
from gameday.state import ROOT, State
from gameday.verdict import checks
from gameday.verdict.checks._damage import compare
from pipelines.cdc import tape as tapes
from tasks import states
from tests.contract.cdc.debezium import Log
from tests.fakes import CONSUMER

__all__ = ["Judge", "judge", "taped"]

DECLARED = ROOT / "compose" / "cdc" / "gameday.toml"
TABLES_OF_IT = re.compile(r"\[\[?(streams|hops)\.")


@contextmanager
def taped(tape: Mapping[str, Any]) -> Iterator[str]:
    """The address of a server that has this tape, whatever becomes of it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told = {"heads": tapes.heads(tape), "rows": tapes.existing(tape), "outcomes": tapes.outcomes(tape)}
            body = json.dumps({**tape, **told}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@dataclass
class Judge:
    """stack: as gameday has it."""

    stack: Stack

    def damage(self) -> dict[tuple[str, str], list[Any]]:
        """(hop, kind of damage) -> the keys, or how many: of rows as of a position, then of changes in all of their
        numbers."""
        live = self.stack.streams["rows"]
        trouble: dict[str, str] = {}
        compared, listed = states.compared(live.stream, live.hops, {}, lambda _, ask: ask(), trouble)
        assert trouble == {}, trouble
        assert [one.hop for one in compared] == ["topic", "target"]
        found: dict[tuple[str, str], list[Any]] = {}
        for one in compared:
            for group, delta in one.groups.items():
                told: Json = listed.get(f"{one.hop} {'/'.join(group)}", {})
                for kind, number, named in (
                    ("lost", delta.lost, "missing"),
                    ("ghost", delta.ghosts, "extra"),
                    ("changed", delta.changed, "changed"),
                ):
                    if number:
                        found.setdefault((one.hop, kind), []).extend(f"{group[0]}/{one}" for one in told[named]["ids"])
        for damage in compare(self.windowed()):
            for kind in ("lost", "doubled", "changed"):
                if number := getattr(damage, kind):
                    found.setdefault((damage.hop, kind), []).append(["/".join(damage.group), number])
        return found

    def windowed(self) -> Evidence:
        """The history beside the tape, of all changes from the first on."""
        live = self.stack.streams["history"]
        heads = live.ledger.heads()
        window = Window(dict.fromkeys(heads, 0), heads)
        digests: list[Digest] = []
        for hop in live.hops.values():
            digests += [d for d in hop.digest(window) if d.stream == "history"]
        return Evidence(
            "cdc",
            {},
            "cdc",
            visible="history",
            ledger="tape-history",
            knows=True,
            window=window,
            stream="history",
            gapless=True,
            digests=tuple(digests),
        )

    def verdicts(self) -> dict[str, Verdict]:
        """Of the checks over all records, as a run gives them."""
        live = self.stack.streams["rows"]
        compared, _ = states.compared(live.stream, live.hops, {}, lambda _, ask: ask(), {})
        evidence = Evidence(
            "cdc",
            {},
            "cdc",
            visible="target",
            ledger="tape",
            knows=True,
            stream="rows",
            states=compared,
        )
        several = (checks.no_loss, checks.no_duplicates, checks.unchanged)
        return {check.__name__: check(evidence).verdict for check in several}


def judge(tmp_path: Path, log: Log, dsn: str, tape: str) -> Judge:
    """The platform's own declaration of its streams and hops, with the servers of a test."""
    tables = [table for table in re.split(r"(?m)^(?=\[)", DECLARED.read_text()) if TABLES_OF_IT.match(table)]
    text = re.sub(r"(?m)^path = .*$", 'path = ["consumer"]', "".join(tables))
    places = {
        "http://127.0.0.1:${WORKLOAD_PORT}": tape,
        "127.0.0.1:${KAFKA_DIRECT_PORT}": log.broker,
        "postgresql://target:${TARGET_PG_PASSWORD}@127.0.0.1:${TARGET_PG_PORT}/shop": dsn,
        "cdc.public.": f"{log.prefix}.public.",
    }
    for place, own in places.items():
        assert place in text
        text = text.replace(place, own)
    path = tmp_path / "gameday.toml"
    path.write_text(CONSUMER + text)
    return Judge(open_stack(path, State(tmp_path)))
