-- The target's tables, and what the sink keeps beside them. They have rules that the source has not, so that a row can be
-- refused for good: what no retry mends.
CREATE TABLE IF NOT EXISTS statuses (name text PRIMARY KEY);
INSERT INTO statuses VALUES ('new'), ('checked'), ('paid'), ('shipped'), ('closed') ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS customers (
    id bigint PRIMARY KEY,
    shard int NOT NULL,
    change bigint NOT NULL,
    status text NOT NULL,
    amount numeric(18, 4),
    note text,
    note_md5 text,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL,
    _lsn bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS orders (
    id bigint PRIMARY KEY,
    shard int NOT NULL,
    change bigint NOT NULL,
    customer_id bigint,
    status text NOT NULL CONSTRAINT orders_status_fk REFERENCES statuses,
    amount numeric(18, 4) NOT NULL CONSTRAINT orders_amount_check CHECK (amount >= 0),
    note text,
    note_md5 text,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL,
    _lsn bigint NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS orders_serial_key ON orders ((facts ->> 'serial'));
-- Takes the serial number that poison rows of kind "unique" ask for. No sweep is late enough to remove it.
INSERT INTO orders VALUES
    (-1, 9, 0, NULL, 'new', 0, NULL, NULL, '{"serial": "taken"}', 'epoch', 9223372036854775807) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS items (
    id bigint PRIMARY KEY,
    shard int NOT NULL,
    change bigint NOT NULL,
    order_id bigint NOT NULL,
    status text NOT NULL,
    amount numeric(18, 4),
    note text,
    note_md5 text,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL,
    _lsn bigint NOT NULL
);
-- Every change that was applied, once. Rows that a snapshot read are no changes. A deletion has no content.
CREATE TABLE IF NOT EXISTS history (
    tbl text NOT NULL,
    shard int NOT NULL,
    change bigint NOT NULL,
    id bigint NOT NULL,
    op text NOT NULL,
    status text,
    amount numeric,
    facts jsonb,
    at timestamptz,
    lsn bigint NOT NULL,
    log_topic text NOT NULL,
    log_partition int NOT NULL,
    log_offset bigint NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT history_key PRIMARY KEY (tbl, shard, change)
);
CREATE INDEX IF NOT EXISTS history_by_time ON history (applied_at);
CREATE TABLE IF NOT EXISTS dead_letters (
    topic text,
    partition int,
    place bigint,
    tbl text NOT NULL,
    id bigint,
    shard int,
    change bigint,
    op text NOT NULL,
    kind text NOT NULL,
    sqlstate text,
    constraint_name text,
    column_name text,
    detail text,
    message text NOT NULL,
    value jsonb,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, place)
);
-- What a snapshot reads again is put aside once.
CREATE UNIQUE INDEX IF NOT EXISTS dead_letters_once ON dead_letters (tbl, id, change);
-- How far each group is: the number of its newest change, and of the newest that left a row. Written with the rows, so
-- one snapshot shows rows and numbers of the same moment.
CREATE TABLE IF NOT EXISTS heads (
    tbl text,
    shard int,
    change bigint NOT NULL,
    left_row bigint NOT NULL,
    PRIMARY KEY (tbl, shard)
);
CREATE OR REPLACE VIEW customers_heads AS SELECT shard, left_row AS change FROM heads WHERE tbl = 'customers';
CREATE OR REPLACE VIEW orders_heads AS SELECT shard, left_row AS change FROM heads WHERE tbl = 'orders';
CREATE OR REPLACE VIEW items_heads AS SELECT shard, left_row AS change FROM heads WHERE tbl = 'items';
-- The sink's place in the log: what is applied is below `next`.
CREATE TABLE IF NOT EXISTS cdc_position (
    topic text,
    partition int,
    next bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
CREATE OR REPLACE VIEW history_heads AS SELECT tbl, shard, change FROM heads;
-- How each change has ended, once: applied, or put aside, and by which rule. A snapshot's rows are no changes.
CREATE OR REPLACE VIEW outcomes AS
    SELECT tbl, shard, change, id, op, status, amount, facts, at, 'applied' AS outcome, NULL AS rule FROM history
    UNION ALL
    SELECT tbl, shard, change, id, op, value ->> 'status', (value ->> 'amount')::numeric, value -> 'facts',
        (value ->> 'at')::timestamptz, kind, coalesce(constraint_name, column_name, sqlstate)
    FROM dead_letters WHERE op IN ('c', 'u', 'd') AND change IS NOT NULL;
