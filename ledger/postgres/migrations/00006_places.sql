-- +goose Up

-- Where the data directory of a node's process was when it joined; empty where that was
-- not told.
ALTER TABLE nodes ADD COLUMN IF NOT EXISTS place text NOT NULL DEFAULT '';
