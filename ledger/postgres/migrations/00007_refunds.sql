-- +goose Up

-- A claim that nodes recorded with several gifts, or several times with one, has taken
-- each of them from the stock: which of the gifts of one name that came back a row is.
ALTER TABLE refunds ADD COLUMN IF NOT EXISTS nth integer NOT NULL DEFAULT 1;
ALTER TABLE refunds DROP CONSTRAINT IF EXISTS refunds_pkey;
ALTER TABLE refunds ADD CONSTRAINT refunds_pkey PRIMARY KEY (claim_id, gift, nth);
