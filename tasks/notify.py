"""Say what a run found: one line with the verdict, the reason and the runbook; and tell people, where it concerns them
now."""

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.model import Message, RunResult, Verdict
from gameday.run import Run
from gameday.state import runbook_of
from gameday.telling import messages
from gameday.verdict import diagnose
from tasks.telling import now, places, tell


@task(name="notify", cache_policy=NO_CACHE)
def notify(run: Run, result: RunResult) -> None:
    """To the run's log, which Prefect and the terminal show. A fail goes to people at once, unless the night has told
    the same or enough; a pass goes to pagers, which it quiets; the night tells the rest."""
    read_on = f". Runbook: {runbook_of(run.stack.runbooks_shown, run.name)}"
    advice = "" if result.verdict in (Verdict.PASS, Verdict.SKIPPED) else read_on
    run.say(f"{run.name}: {str(result.verdict).upper()}: {result.why}{advice}")

    def wanted(told: Sequence[Message]) -> Sequence[Message]:
        if not run.trusted:
            return []
        culprits = diagnose.culprits(run.gathered) if run.gathered is not None else []
        about = (result, culprits, places(run.stack, run.night, run.name), now())
        failed = [messages.fail(*about)] if result.verdict is Verdict.FAIL else []
        return [*messages.pages(*about), *(m for m in failed if not messages.flood(m, told))]

    tell(run.stack, run.say, run.night, wanted)
