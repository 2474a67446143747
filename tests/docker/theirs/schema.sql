-- A team's tables: three bronze ones that a queue each fills, silver over them. What is delivered twice is there twice.
CREATE DATABASE IF NOT EXISTS k2;

CREATE TABLE IF NOT EXISTS k2.bronze_trades_{venue}
(
    exchange_timestamp DateTime64(3, 'UTC'),
    sequence_number UInt64,
    symbol String,
    price Decimal(18, 8),
    quantity Decimal(18, 8),
    side Enum8('buy' = 1, 'sell' = 2),
    kafka_partition UInt16,
    kafka_offset UInt64,
    ingestion_timestamp DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree ORDER BY (symbol, exchange_timestamp, sequence_number);

CREATE TABLE IF NOT EXISTS k2.silver_trades
(
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    source_sequence Nullable(UInt64),
    price Decimal(38, 8),
    quantity Decimal(38, 8),
    side Enum8('BUY' = 1, 'SELL' = 2),
    timestamp DateTime64(6, 'UTC'),
    processed_at DateTime64(6, 'UTC') DEFAULT now64(6)
)
ENGINE = MergeTree ORDER BY (exchange, symbol, timestamp);

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.bronze_{venue}_to_silver_mv TO k2.silver_trades AS
SELECT
    '{venue}' AS exchange, symbol, sequence_number AS source_sequence, price, quantity,
    CAST(upper(toString(side)) AS Enum8('BUY' = 1, 'SELL' = 2)) AS side, exchange_timestamp AS timestamp
FROM k2.bronze_trades_{venue};

CREATE TABLE IF NOT EXISTS k2.trades_{venue}_queue (message String)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'redpanda:9092', kafka_topic_list = 'market.crypto.trades.{venue}',
    kafka_group_name = 'clickhouse_bronze_{venue}_consumer', kafka_format = 'JSONAsString', kafka_poll_timeout_ms = 100,
    kafka_flush_interval_ms = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS k2.bronze_trades_{venue}_mv TO k2.bronze_trades_{venue} AS
SELECT
    fromUnixTimestamp64Milli(JSONExtractInt(message, 'exchange_timestamp'), 'UTC') AS exchange_timestamp,
    JSONExtractUInt(message, 'trade_id') AS sequence_number,
    JSONExtractString(message, 'symbol') AS symbol,
    toDecimal64(JSONExtractString(message, 'price'), 8) AS price,
    toDecimal64(JSONExtractString(message, 'quantity'), 8) AS quantity,
    CAST(JSONExtractString(message, 'side') AS Enum8('buy' = 1, 'sell' = 2)) AS side,
    toUInt16(_partition) AS kafka_partition,
    toUInt64(_offset) AS kafka_offset
FROM k2.trades_{venue}_queue;
