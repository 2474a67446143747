"""Say what a run found: one line with the verdict, the reason and the runbook."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.model import RunResult, Verdict
from gameday.run import Run
from gameday.state import ROOT


@task(name="notify", cache_policy=NO_CACHE)
def notify(run: Run, result: RunResult) -> None:
    """To the run's log, which Prefect and the terminal show."""
    runbook = ROOT / "runbooks" / f"{run.name}.md"
    advice = "" if result.verdict in (Verdict.PASS, Verdict.SKIPPED) else f". Runbook: {runbook.relative_to(ROOT)}"
    run.say(f"{run.name}: {str(result.verdict).upper()}: {result.why}{advice}")
