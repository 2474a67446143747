-- What became of each request: carried out ('done'), or a dead letter ('dead'); the first one counts. n is not unique: a
-- request that came under two ids is there twice, and that is found.
CREATE TABLE IF NOT EXISTS outcomes (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    n bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('done', 'dead')),
    lane text,
    amount numeric(18, 2) NOT NULL,
    deadline_ms int NOT NULL,
    body_md5 text NOT NULL,
    router text,
    attempt int NOT NULL,
    reason text,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS outcomes_by_number ON outcomes (tenant, n);
-- Of each tenant the last request that has an outcome with all before it.
CREATE TABLE IF NOT EXISTS heads (tenant text PRIMARY KEY, n bigint NOT NULL);
