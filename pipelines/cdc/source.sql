-- The source's tables. Columns beside these come by the tape (pipelines/cdc/tape.py, SHAPES). A row has the number of its
-- last change; note_md5 tells the note where the log doesn't have it.
CREATE TABLE IF NOT EXISTS customers (
    id bigint PRIMARY KEY,
    shard int NOT NULL,
    change bigint NOT NULL,
    status text NOT NULL,
    amount numeric,
    note text,
    note_md5 text,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS orders (
    id bigint PRIMARY KEY,
    shard int NOT NULL,
    change bigint NOT NULL,
    customer_id bigint REFERENCES customers,
    status text NOT NULL,
    amount numeric,
    note text,
    note_md5 text,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_by_customer ON orders (customer_id);
CREATE TABLE IF NOT EXISTS items (
    id bigint PRIMARY KEY,
    shard int NOT NULL,
    change bigint NOT NULL,
    order_id bigint NOT NULL REFERENCES orders,
    status text NOT NULL,
    amount numeric,
    note text,
    note_md5 text,
    facts jsonb NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS items_by_order ON items (order_id);
-- How far each shard is, is asked many times a second.
CREATE INDEX IF NOT EXISTS customers_by_change ON customers (shard, change);
CREATE INDEX IF NOT EXISTS orders_by_change ON orders (shard, change);
CREATE INDEX IF NOT EXISTS items_by_change ON items (shard, change);
-- What a message tells of a row before its change: all of it, or what identifies the change. Then a large note that an
-- update leaves as it is arrives as a placeholder.
ALTER TABLE customers REPLICA IDENTITY FULL;
ALTER TABLE orders REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX IF NOT EXISTS items_identity ON items (id, shard, change);
ALTER TABLE items REPLICA IDENTITY USING INDEX items_identity;
-- Of each shard the transaction that was its last one, written by it: so whether a COMMIT happened can be looked up.
CREATE TABLE IF NOT EXISTS workload (shard text PRIMARY KEY, j bigint NOT NULL);
CREATE TABLE IF NOT EXISTS debezium_signal (id text PRIMARY KEY, type text NOT NULL, data text);
-- What failure tests have asked of the source, noted before it is done.
CREATE TABLE IF NOT EXISTS asked (
    key text PRIMARY KEY,
    told jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'cdc') THEN
        CREATE PUBLICATION cdc FOR TABLE customers, orders, items, debezium_signal;
    END IF;
END $$;
