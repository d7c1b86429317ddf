-- +goose Up

-- What each claim gets of which an order was begun to be delivered.
CREATE TABLE IF NOT EXISTS choices (
	claim_id uuid PRIMARY KEY,
	gift     text NOT NULL,
	orders   bytea NOT NULL, -- their ids, one behind the other
	made     bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS choices_by_age ON choices (made);
