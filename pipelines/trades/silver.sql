-- Silver: each trade once. Of a trade that was sent again the lowest offset is kept (version = 2^64 - 1 - offset), so that a row never moves past a
-- reader's position in the log.
CREATE TABLE IF NOT EXISTS trades.silver_raw
(
    venue        LowCardinality(String),
    symbol       LowCardinality(String),
    trade_id     UInt64,
    price        Decimal(38, 8),
    quantity     Decimal(38, 8),
    side         UInt8,
    exchange_us  Int64,
    received_us  Int64,
    topic        LowCardinality(String),
    partition    UInt32,
    offset       UInt64,
    ingested_at  DateTime64(6, 'UTC'),
    version      UInt64,
    INDEX ingested ingested_at TYPE minmax GRANULARITY 1,
    INDEX happened exchange_us TYPE minmax GRANULARITY 1,
    INDEX logged (topic, partition, offset) TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (venue, symbol, trade_id);

-- For tables that are older than the index; what they hold already is found without it.
ALTER TABLE trades.silver_raw ADD INDEX IF NOT EXISTS logged (topic, partition, offset) TYPE minmax GRANULARITY 1;

-- What users query.
CREATE OR REPLACE VIEW trades.silver AS
SELECT
    venue, symbol, trade_id, price, quantity, side,
    fromUnixTimestamp64Micro(exchange_us, 'UTC') AS exchange_time,
    exchange_us, received_us, topic, partition, offset, ingested_at
FROM trades.silver_raw FINAL;

-- The highest id of each symbol, without a scan of history.
CREATE TABLE IF NOT EXISTS trades.silver_heads
(
    venue        LowCardinality(String),
    symbol       LowCardinality(String),
    trade_id     SimpleAggregateFunction(max, UInt64),
    exchange_us  SimpleAggregateFunction(max, Int64)
)
ENGINE = AggregatingMergeTree
ORDER BY (venue, symbol);

CREATE MATERIALIZED VIEW trades.silver_raw_to_heads TO trades.silver_heads AS
SELECT venue, symbol, max(trade_id) AS trade_id, max(exchange_us) AS exchange_us
FROM trades.silver_raw
GROUP BY venue, symbol;

CREATE MATERIALIZED VIEW trades.bronze_to_silver TO trades.silver_raw AS
SELECT
    venue, symbol, trade_id, price, quantity, side, exchange_us, received_us, topic, partition, offset, ingested_at,
    18446744073709551615 - offset AS version
FROM trades.bronze
WHERE reason = '';
