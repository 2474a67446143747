"""Reports what a run found: one line with the verdict, the reason and the runbook, and messages to people."""

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
    """Write the verdict to the run's log (Prefect and the terminal show it), and send what people must know now.

    A fail is sent at once, unless the night has sent the same already, or enough. A pass is sent to pagers, where it
    ends an alert. The night's own message tells everything else.
    """
    read_on = f". Runbook: {runbook_of(run.stack.runbooks_shown, run.name)}"
    advice = "" if result.verdict in (Verdict.PASS, Verdict.SKIPPED) else read_on
    run.say(f"{run.name}: {str(result.verdict).upper()}: {result.why}{advice}")

    def wanted(sent: Sequence[Message]) -> Sequence[Message]:
        if not run.trusted:
            return []
        culprits = diagnose.culprits(run.gathered) if run.gathered is not None else []
        about = (result, culprits, places(run.stack, run.night, run.name), now())
        failed = [messages.fail(*about)] if result.verdict is Verdict.FAIL else []
        return [*messages.pages(*about), *(m for m in failed if not messages.flood(m, sent))]

    tell(run.stack, run.say, run.night, wanted)
