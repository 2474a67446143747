-- Bronze: one row a message as it was delivered, and the trade it holds or why it holds none. A message that is delivered again is a row again:
-- what happened is evidence. Empty messages (tombstones) never get here: the Kafka engine skips them.
-- Retention: seven days, by whole parts.
CREATE TABLE IF NOT EXISTS trades.bronze
(
    topic        LowCardinality(String),
    partition    UInt32,
    offset       UInt64,
    key          String,
    raw          String,
    reason       LowCardinality(String),
    venue        LowCardinality(String),
    symbol       LowCardinality(String),
    trade_id     UInt64,
    price        Decimal(38, 8),
    quantity     Decimal(38, 8),
    side         UInt8,
    exchange_us  Int64,
    received_us  Int64,
    ingested_at  DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree
PARTITION BY toDate(ingested_at)
ORDER BY (topic, partition, offset)
TTL toDateTime(ingested_at) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

-- Messages that hold no trade, with the reason.
CREATE TABLE IF NOT EXISTS trades.dead_letters
(
    topic        LowCardinality(String),
    partition    UInt32,
    offset       UInt64,
    key          String,
    raw          String,
    reason       LowCardinality(String),
    ingested_at  DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (topic, partition, offset);

CREATE MATERIALIZED VIEW trades.bronze_to_dead_letters TO trades.dead_letters AS
SELECT topic, partition, offset, key, raw, reason, ingested_at
FROM trades.bronze
WHERE reason != '';
