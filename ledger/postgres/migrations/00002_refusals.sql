-- +goose Up

-- Derived from the logs: of each order that was refused its claim, until it has been
-- weighed whether the claim is to be refunded. One whose claim is not known yet is
-- looked at again, at due, and after more looks less often.
CREATE TABLE refusals (
	id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	claim_id uuid NOT NULL,
	looks    integer NOT NULL,
	due      bigint NOT NULL
);
CREATE INDEX refusals_by_due ON refusals (due, id);

-- 5 is the kind of a refusal.
INSERT INTO refusals (claim_id, looks, due) SELECT DISTINCT claim_id, 0, 0 FROM outcomes WHERE kind = 5;
