"""A night: what its runs share, and what is written and told of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from gameday import codec
from gameday.errors import GamedayError, masked
from gameday.model import Evidence, Finding, Json, RunResult, Verdict
from gameday.plan import FailureTest
from gameday.reports import junit, results, site
from gameday.run import Run, Span
from gameday.stack.live import Stack, open_stack
from gameday.system import signals
from gameday.verdict import diagnose
from tasks.telling import tell_night

__all__ = ["Night", "Planned", "night"]


@dataclass(frozen=True)
class Planned:
    """A run that a night still has to make. params: all parameters of its test, with their defaults."""

    name: str
    params: Mapping[str, Json]
    test: FailureTest
    label: str


@dataclass
class Night:
    """What runs of the same night share: its id, who watches, how many they are to be, and the results so far.

    completed: when all of them had ended, in a night of every failure test. ahead: what is still to be run, the present
    test first. early: the next run, as far as Run.prepare. disturbed_ns: the last run's Run.disturbs_ns.
    """

    id: str
    say: Callable[[str], None] | None = None
    runs: int = 1
    completed: datetime | None = None
    results: list[RunResult] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    ahead: Sequence[Planned] = ()
    early: Run | None = None
    disturbed_ns: Span | None = None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    def tell(self, text: str) -> None:
        """Show a line to the user and in Prefect's log. Errors are ignored: no run could mend them."""
        text = masked(text)
        for tell in (self.say, _to_prefect):
            try:
                if tell is not None:
                    tell(text)
            except signals.Stopped:
                raise
            except (Exception, SystemExit):  # noqa: BLE001 - SystemExit is how a console ends on a broken pipe
                continue

    def look_ahead(self, following: Planned, stack: str) -> None:
        """Prepare the next run, and start sampling for it, before it begins.

        This is called while the checks are proved, or once the platform is back from the run before. What is sampled
        from now on is the next run's baseline. If it fails, the user is told, and the run prepares when it begins.
        """
        opened = open_stack(Path(stack) if stack else None)
        try:
            if not opened.misses(following.test):
                self.early = Run(opened, following.name, following.params, following.test, self.id, self.tell)
                self.early.prepare()
        except (GamedayError, OSError) as e:
            self.tell(f"{following.name}: not prepared ahead: {e}")

    def begin(self, name: str, params: Mapping[str, Json], test: FailureTest, stack: str) -> Run:
        """Return a run of this test: the one that look_ahead prepared, if it is the same and its processes live."""
        early, self.early = self.early, None
        if early is not None and (early.name, dict(early.params)) == (name, dict(params)) and early.prepared:
            early.begin(self.disturbed_ns)
            return early
        if early is not None:
            early.close()
        return Run(open_stack(Path(stack) if stack else None), name, params, test, self.id, self.tell)

    def drop_early(self) -> None:
        """End the processes that were prepared for a run that will not come."""
        early, self.early = self.early, None
        if early is not None:
            early.close()

    @property
    def trusted(self) -> bool:
        """Whether the selftest caught every planted fault. If not, no verdict of this night can be believed."""
        return all(f.verdict is Verdict.PASS for f in self.findings if f.check == "selftest")

    def judged(self) -> list[RunResult]:
        """The results as they are published. All are unknown in a night whose checks missed a planted fault."""
        if self.trusted:
            return list(self.results)
        why = "the selftest missed a planted fault, so no check can be believed"
        return [replace(r, verdict=Verdict.UNKNOWN, why=f"{why} (said: {r.verdict}, {r.why})") for r in self.results]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the results and of the night's own findings; skipped when nothing was run."""
        return results.verdict(self.judged(), self.findings)

    def write(self, stack: Stack) -> Path:
        """Write results.json, junit.xml and report.html of this night, and the site's pages around it.

        A signal that ends this process waits until they are written. Returns: the night's folder.
        """
        with signals.Gate():
            return self._write(stack)

    def _write(self, stack: Stack) -> Path:
        folder = stack.state.night(self.id)
        runs = self.judged()
        codec.write_json(folder / "results.json", results.to_json(self.id, runs, self.findings, stack.runbooks_shown))
        try:
            self._pages(stack, folder, runs)
        except OSError as e:
            raise GamedayError(f"{folder} can't be written: {e.strerror}. Remedy: check space and rights there") from e
        return folder

    def close(self, stack: Stack) -> None:
        """Write the night's files, then send the night's message.

        What could not be written or sent is said, in the files too. It changes no verdict.
        """
        self._kept(stack)
        left = tell_night(stack, self.tell, self.id, self.judged(), self.findings)
        if left:
            self.findings.append(Finding("channels", Verdict.SKIPPED, "; ".join(left)))
            self._kept(stack)

    def _kept(self, stack: Stack) -> None:
        try:
            self.write(stack)
        except Exception as e:  # noqa: BLE001 - each run's result is in its folder; the night's verdict stays
            self.tell(f"{self.id}: no report: {e if isinstance(e, GamedayError) else repr(e)}")

    def _pages(self, stack: Stack, folder: Path, runs: list[RunResult]) -> None:
        (folder / "junit.xml").write_text(junit.render(self.id, runs, self.findings), encoding="utf-8")
        pages = [(r, _evidence(stack, r.id)) for r in runs]
        site.write(
            stack.state,
            self.id,
            pages,
            findings=self.findings,
            prefect=stack.config.prefect.ui_url,
            runbooks=stack.runbooks_shown,
            diagnoses={r.id: diagnose.explain(evidence, r.findings) for r, evidence in pages if evidence is not None},
        )


def _to_prefect(text: str) -> None:
    """Write a line to the log of the present flow run; do nothing outside of one."""
    with suppress(MissingContextError):
        get_run_logger().info(text)


def _evidence(stack: Stack, run_id: str) -> Evidence | None:
    """Return a run's evidence. None: it could not be kept, and the run's verdict says so."""
    try:
        return codec.load_evidence(stack.state.run(run_id))
    except GamedayError:
        return None


night: ContextVar[Night | None] = ContextVar("night", default=None)
"""The night that this process' flows belong to. None: each run is a night of its own."""
