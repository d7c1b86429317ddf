-- +goose Up

-- How far each node's log has been taken in. A node that is registered and of which
-- nothing was taken in is at 0, for nobody knows what its log holds. One that has left
-- and whose whole log was taken in holds nothing back, as one that is retired.
CREATE OR REPLACE VIEW lags AS
	SELECT node, coalesce(f.position, 0) AS position, coalesce(f.as_of, 0) AS as_of
	FROM followed f FULL JOIN nodes n USING (node)
	WHERE n.state IS DISTINCT FROM 'retired' AND (n.state IS DISTINCT FROM 'left' OR coalesce(f.position, 0) < n.log_end);
