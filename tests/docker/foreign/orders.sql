-- What a bookshop's people have in both databases; in the second one it is the copy, for who works on reports.
CREATE TABLE orders (
    id uuid PRIMARY KEY,
    customer text NOT NULL,
    status text NOT NULL,
    total numeric(12, 2) NOT NULL,
    note text,
    version integer NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX ON orders (updated_at);
