"""Apache Kafka, and what speaks its protocol: the log as a hop, a consumer group's place in it, and whether its leaders
serve. What a consumer made of the log is that consumer's driver's business.
"""

from gameday.drivers.kafka.log import Hop
from gameday.drivers.kafka.probes import Cursor, Lag, Probe, Serving

__all__ = ["Cursor", "Hop", "Lag", "Probe", "Serving"]
