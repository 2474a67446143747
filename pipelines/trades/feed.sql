-- The feed: the venues' topics as they are (RawBLOB: one row a message, whatever it holds), and what reads them into bronze. The reader comes last:
-- from its creation on, messages are consumed. Nothing here can throw: a message that holds no trade gets a reason instead.
CREATE TABLE IF NOT EXISTS trades.feed (raw String)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '{brokers}',
    kafka_topic_list = 'market.crypto.trades.binance,market.crypto.trades.kraken,market.crypto.trades.coinbase',
    kafka_group_name = 'clickhouse',
    kafka_format = 'RawBLOB',
    kafka_num_consumers = 1,
    kafka_poll_timeout_ms = 100,
    kafka_flush_interval_ms = 1000,
    kafka_consumer_reschedule_ms = 5,
    kafka_max_block_size = 65536,
    kafka_poll_max_batch_size = 10000,
    kafka_handle_error_mode = 'stream';

-- A decimal is text of digits with at most eight after the point (zeros beyond don't count): ClickHouse's own cast would cut the others silently.
-- The largest is 2^63 - 1 of 10^-8, so that it is exact wherever it goes; so it is of ids.
CREATE MATERIALIZED VIEW trades.feed_to_bronze TO trades.bronze AS
WITH
    '^[0-9]+([.][0-9]{1,8}0*)?$' AS decimal,
    toDecimal128('92233720368.54775807', 8) AS largest,
    toDecimal128OrNull(JSONExtractString(raw, 'price'), 8) AS price_read,
    toDecimal128OrNull(JSONExtractString(raw, 'quantity'), 8) AS quantity_read
SELECT
    _topic AS topic,
    toUInt32(_partition) AS partition,
    toUInt64(_offset) AS offset,
    _key AS key,
    raw,
    multiIf(
        NOT isValidJSON(raw), 'not JSON',
        JSONType(raw) != 'Object', 'not a JSON object',
        JSONType(raw, 'venue') != 'String', 'venue is missing or not a string',
        NOT endsWith(_topic, concat('.', JSONExtractString(raw, 'venue'))), 'venue is not the topic''s',
        JSONType(raw, 'symbol') != 'String' OR JSONExtractString(raw, 'symbol') = '', 'symbol is missing or not a string',
        JSONType(raw, 'trade_id') NOT IN ('Int64', 'UInt64'), 'trade_id is missing or not an integer',
        JSONType(raw, 'trade_id') = 'UInt64', 'trade_id is too large',
        JSONType(raw, 'trade_id') = 'Int64' AND JSONExtractInt(raw, 'trade_id') <= 0, 'trade_id is not positive',
        JSONType(raw, 'side') != 'String', 'side is missing or not a string',
        JSONExtractString(raw, 'side') NOT IN ('buy', 'sell'), 'side is neither buy nor sell',
        JSONType(raw, 'price') != 'String', 'price is missing or not a string',
        NOT match(JSONExtractString(raw, 'price'), decimal), 'price is not a decimal of scale 8',
        ifNull(price_read > largest, true), 'price is too large',
        JSONType(raw, 'quantity') != 'String', 'quantity is missing or not a string',
        NOT match(JSONExtractString(raw, 'quantity'), decimal), 'quantity is not a decimal of scale 8',
        ifNull(quantity_read > largest, true), 'quantity is too large',
        JSONType(raw, 'exchange_us') != 'Int64', 'exchange_us is missing or not an integer',
        JSONExtractInt(raw, 'exchange_us') NOT BETWEEN 0 AND 4102444800000000, 'exchange_us is not between 1970 and 2100',
        '') AS reason,
    if(reason = '', JSONExtractString(raw, 'venue'), '') AS venue,
    if(reason = '', JSONExtractString(raw, 'symbol'), '') AS symbol,
    if(reason = '', JSONExtractUInt(raw, 'trade_id'), 0) AS trade_id,
    if(reason = '', ifNull(price_read, 0), 0) AS price,
    if(reason = '', ifNull(quantity_read, 0), 0) AS quantity,
    if(reason = '' AND JSONExtractString(raw, 'side') = 'sell', 1, 0) AS side,
    if(reason = '', JSONExtractInt(raw, 'exchange_us'), 0) AS exchange_us,
    if(reason = '', JSONExtractInt(raw, 'received_us'), 0) AS received_us,
    now64(6) AS ingested_at
FROM trades.feed;
