"""The offload: moves silver trades to an Iceberg table on S3, each exactly once, whatever is killed, cut or run twice.

How: the position in the log up to which the table holds every trade is committed with the rows, in the summary of the
same snapshot. A commit is a compare-and-swap in the catalog, so one that is based on an outdated position is rejected.
Nothing else (no lock, no schedule, not the mirror in Postgres) is needed for that to hold.

    python -m pipelines.trades.offload --prepare | --once | --maintain

engine.py is one run; silver.py reads, lake.py writes, mirror.py tells; maintenance.py cleans up. flow.py alone knows
Prefect.
"""
