-- The key and the endpoint of providers with several, by their names, and the part ('key', 'endpoint') that took the place
-- of the one by which the attempt before failed; '' where there is none.
ALTER TABLE analytics.attempts ADD COLUMN route_key text NOT NULL DEFAULT '';
ALTER TABLE analytics.attempts ADD COLUMN route_endpoint text NOT NULL DEFAULT '';
ALTER TABLE analytics.attempts ADD COLUMN switched text NOT NULL DEFAULT '';
