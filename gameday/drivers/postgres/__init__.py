"""PostgreSQL: a server that answers, a table as a hop, a replication slot as a consumer's place in the log, and
positions that rest in a table; and what writes by a statement.
"""

from gameday.drivers.postgres.looks import Cursor, Lag, Mirror, Probe, TimeMirror
from gameday.drivers.postgres.table import Hop
from gameday.drivers.postgres.writing import Canary

__all__ = ["Canary", "Cursor", "Hop", "Lag", "Mirror", "Probe", "TimeMirror"]
