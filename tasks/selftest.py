"""Proves the checks against planted faults before anything is broken. One miss makes every verdict of the night
unknown."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from gameday.model import Finding, Verdict
from gameday.verdict import selftest
from tasks.night import Night


@task(name="selftest", cache_policy=NO_CACHE)
def prove_checks(night: Night) -> None:
    """Add the finding `selftest` to the night."""
    missed = [f for f in selftest.run() if f.verdict is not Verdict.PASS]
    why = (
        "; ".join(f"{f.check}: {f.why}" for f in missed)
        or "every planted fault was caught, and the clean history passed"
    )
    night.findings.append(Finding("selftest", Verdict.UNKNOWN if missed else Verdict.PASS, why))
