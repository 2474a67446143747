-- A bank's ledger: one row for each payment, booked once.
CREATE TABLE payments
(
    id uuid PRIMARY KEY, account text NOT NULL, amount numeric(12, 2) NOT NULL, currency text NOT NULL, purpose text,
    made_at timestamptz NOT NULL, booked_at timestamptz NOT NULL DEFAULT now()
);
