-- +goose Up

-- The epoch of the process that told log_end by Leave; 0 where none did. What an older
-- release does to a node raises its epoch and not this.
ALTER TABLE nodes ADD COLUMN IF NOT EXISTS ended bigint NOT NULL DEFAULT 0;
UPDATE nodes SET ended = epoch WHERE state = 'left';

-- Of each holder of leases whose node's name has gone to another log, what was known of
-- its own. The home is empty where that does not tell the log from others.
CREATE TABLE IF NOT EXISTS formers (
	holder  text COLLATE "C" PRIMARY KEY,
	home    text NOT NULL,
	log_end bigint NOT NULL,
	ended   boolean NOT NULL
);
