"""The offload: moves silver trades to an Iceberg table on S3, each exactly once, whatever is killed, cut or run twice.

The position in the log up to which the table holds every trade is committed with the rows, in the summary of the same
snapshot. A commit is a compare-and-swap in the catalog, so one that is based on an outdated position is rejected. This
needs nothing else: no lock, no schedule, and not the mirror in Postgres.

    python -m pipelines.trades.offload --prepare | --once | --maintain

engine.py is one run; silver.py reads, lake.py writes, mirror.py reports; maintenance.py cleans up. Only flow.py knows
Prefect.
"""
