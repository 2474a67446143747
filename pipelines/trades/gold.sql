-- Gold: OHLCV bars of 1m, 5m, 1h and 1d. Never incremental: every two seconds the minutes that were touched since the last computation are computed
-- anew from silver, and the larger bars from the minutes they hold. A refresh that was missed or failed is made up by the next one.
CREATE TABLE IF NOT EXISTS trades.gold_raw
(
    venue        LowCardinality(String),
    symbol       LowCardinality(String),
    interval     LowCardinality(String),
    bucket       DateTime('UTC'),
    n            UInt64,
    first_id     UInt64,
    last_id      UInt64,
    open         Decimal(38, 8),
    high         Decimal(38, 8),
    low          Decimal(38, 8),
    close        Decimal(38, 8),
    volume       Decimal(38, 8),
    computed_at  DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(computed_at)
ORDER BY (interval, venue, symbol, bucket);

-- What users query: each bar once.
CREATE OR REPLACE VIEW trades.gold AS
SELECT venue, symbol, interval, bucket, n, first_id, last_id, open, high, low, close, volume, computed_at
FROM trades.gold_raw FINAL;

-- Touched: ingested since two minutes before the last computation (more than an insert can take). Both marks survive a clock that is set back:
-- `since` then goes back with it, and computed_at keeps rising.
-- All copies of a trade have the same time, so the index on it finds all or none of them: the exact mode, which looks for copies elsewhere too, would
-- read a third of history each time.
CREATE MATERIALIZED VIEW trades.silver_to_gold REFRESH EVERY 2 SECOND APPEND TO trades.gold_raw AS
WITH
    (SELECT max(computed_at) FROM trades.gold_raw WHERE interval = '1m') AS last_computed,
    least(last_computed, now64(6)) - INTERVAL 2 MINUTE AS since,
    touched AS
    (
        SELECT DISTINCT venue, symbol, intDiv(exchange_us, 60000000) AS minute
        FROM trades.silver_raw
        WHERE ingested_at > since
    )
SELECT
    venue,
    symbol,
    '1m' AS interval,
    toDateTime(intDiv(exchange_us, 60000000) * 60, 'UTC') AS bucket,
    count() AS n,
    min(trade_id) AS first_id,
    max(trade_id) AS last_id,
    argMin(price, trade_id) AS open,
    max(price) AS high,
    min(price) AS low,
    argMax(price, trade_id) AS close,
    sum(quantity) AS volume,
    greatest(now64(6), last_computed + INTERVAL 1 MICROSECOND) AS computed_at
FROM trades.silver_raw FINAL
WHERE exchange_us >= (SELECT min(minute) * 60000000 FROM touched)
  AND (venue, symbol, intDiv(exchange_us, 60000000)) IN (touched)
GROUP BY venue, symbol, bucket
SETTINGS use_skip_indexes_if_final_exact_mode = 0;

CREATE MATERIALIZED VIEW trades.gold_to_gold REFRESH EVERY 2 SECOND DEPENDS ON trades.silver_to_gold APPEND TO trades.gold_raw AS
WITH
    (SELECT max(computed_at) FROM trades.gold_raw WHERE interval != '1m') AS last_computed,
    least(last_computed, now64(6)) - INTERVAL 2 MINUTE AS since,
    touched AS
    (
        SELECT DISTINCT venue, symbol, size.1 AS larger, intDiv(toUnixTimestamp(bucket), size.2) AS number
        FROM trades.gold_raw
        ARRAY JOIN [('5m', 300), ('1h', 3600), ('1d', 86400)] AS size
        WHERE interval = '1m' AND computed_at > since
    )
SELECT
    venue,
    symbol,
    size.1 AS interval,
    toDateTime(intDiv(toUnixTimestamp(minute), size.2) * size.2, 'UTC') AS bucket,
    sum(trades) AS n,
    min(first) AS first_id,
    max(last) AS last_id,
    argMin(opened, first) AS open,
    max(highest) AS high,
    min(lowest) AS low,
    argMax(closed, last) AS close,
    sum(amount) AS volume,
    greatest(now64(6), last_computed + INTERVAL 1 MICROSECOND) AS computed_at
FROM
(
    SELECT
        venue, symbol, bucket AS minute, n AS trades, first_id AS first, last_id AS last,
        open AS opened, high AS highest, low AS lowest, close AS closed, volume AS amount
    FROM trades.gold_raw FINAL
    WHERE interval = '1m' AND toUnixTimestamp(bucket) >= (SELECT min(number * 86400) FROM touched WHERE larger = '1d')
)
ARRAY JOIN [('5m', 300), ('1h', 3600), ('1d', 86400)] AS size
WHERE (venue, symbol, size.1, intDiv(toUnixTimestamp(minute), size.2)) IN (touched)
GROUP BY venue, symbol, interval, bucket;
