-- A shop's warehouse: a queue that reads the topic, and a view that fills the table which people query.
CREATE DATABASE analytics;

CREATE TABLE analytics.activity_queue
(
    event_id UUID, event_type String, user String, device Nullable(String),
    geo_location Tuple(lat Float64, lon Float64), purchase_amount Nullable(Float64), occurred_at String
)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'kafka:9092', kafka_topic_list = 'user_activity', kafka_group_name = 'clickhouse-activity',
    kafka_format = 'JSONEachRow', kafka_flush_interval_ms = 1000;

CREATE TABLE analytics.activity
(
    id UUID, kind LowCardinality(String), visitor String, device LowCardinality(Nullable(String)), lat Float64,
    lon Float64, amount Nullable(Decimal(18, 2)), at DateTime64(3, 'UTC'), stored_at DateTime DEFAULT now()
)
ENGINE = ReplacingMergeTree ORDER BY id;

CREATE MATERIALIZED VIEW analytics.activity_mv TO analytics.activity AS
SELECT
    event_id AS id, event_type AS kind, user AS visitor, device, geo_location.lat AS lat, geo_location.lon AS lon,
    toDecimal64(toString(purchase_amount), 2) AS amount, parseDateTime64BestEffort(occurred_at, 3, 'UTC') AS at
FROM analytics.activity_queue;
