-- Alerts of every kind: one row for each condition of one subject in one episode. The latest record on it stands.
CREATE TABLE analytics.alerts (
    alert_id        text        PRIMARY KEY,
    labels          jsonb       NOT NULL, -- kind, severity and the subject's dimensions
    as_of           timestamptz NOT NULL,
    raised          timestamptz NOT NULL,
    cleared         timestamptz, -- NULL: it is not over
    ends            timestamptz, -- it does not stand from then on; NULL: it has no end of its own
    turn            integer     NOT NULL DEFAULT 1, -- how often it was raised
    percent         integer     NOT NULL,
    figures         jsonb       NOT NULL, -- the rest of the record
    acknowledged    timestamptz,
    acknowledged_by text        NOT NULL DEFAULT '',
    note            text        NOT NULL DEFAULT ''
);

CREATE INDEX alerts_raised ON analytics.alerts (raised);
CREATE INDEX alerts_not_over ON analytics.alerts (raised) WHERE cleared IS NULL;
CREATE INDEX alerts_as_of ON analytics.alerts (as_of);

CREATE TABLE analytics.alert_silences (
    silence_id text        PRIMARY KEY,
    matchers   jsonb       NOT NULL, -- a part of the labels of the alerts that it is about
    since      timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    made_by    text        NOT NULL,
    reason     text        NOT NULL
);

-- What is to be sent to webhooks, and what was.
CREATE TABLE analytics.alert_deliveries (
    delivery_id text        PRIMARY KEY,
    alert_id    text        NOT NULL REFERENCES analytics.alerts ON DELETE CASCADE,
    destination text        NOT NULL,
    turn        integer     NOT NULL,
    word        text        NOT NULL,
    body        bytea       NOT NULL,
    made        timestamptz NOT NULL,
    due         timestamptz NOT NULL, -- a replica that sends it moves this ahead, and nobody else takes it until then
    tries       integer     NOT NULL DEFAULT 0,
    ended       timestamptz, -- NULL: neither delivered nor given up
    UNIQUE (alert_id, destination, turn, word)
);

CREATE INDEX alert_deliveries_due ON analytics.alert_deliveries (destination, due) WHERE ended IS NULL;

-- The replica that may do something alone, and until when.
CREATE TABLE analytics.leases (
    name   text        PRIMARY KEY,
    holder text        NOT NULL,
    until  timestamptz NOT NULL
);

-- Limiters do not repeat what they have said: what stands now is carried over, under the ids that Alert.alert_id gives.
INSERT INTO analytics.alerts (alert_id, labels, as_of, raised, cleared, ends, percent, figures)
SELECT
    substr(encode(sha256(convert_to(
        kind || E'\n' || CASE WHEN dimension < 'period'
            THEN dimension || '=' || named || E'\nperiod=' || period || E'\nunit=' || unit
            WHEN dimension < 'unit' THEN 'period=' || period || E'\n' || dimension || '=' || named || E'\nunit=' || unit
            ELSE 'period=' || period || E'\nunit=' || unit || E'\n' || dimension || '=' || named
        END || E'\n' || (extract(epoch FROM window_start) * 1000000)::bigint, 'UTF8')), 'hex'), 1, 20),
    jsonb_build_object(dimension, named, 'unit', unit, 'period', period, 'kind', kind, 'severity', severity),
    said, raised, cleared,
    window_start + CASE period WHEN 'day' THEN interval '25 hours' ELSE interval '32 days' END,
    0,
    jsonb_build_object(
        'kind', kind, 'severity', severity,
        'subject', jsonb_build_array(
            jsonb_build_array(dimension, named), jsonb_build_array('unit', unit), jsonb_build_array('period', period)
        ),
        'episode', extract(epoch FROM window_start), 'as_of', extract(epoch FROM said),
        'raised', extract(epoch FROM raised), 'cleared', extract(epoch FROM cleared),
        'ends', extract(epoch FROM window_start) + CASE period WHEN 'day' THEN 90000 ELSE 2764800 END,
        'amount', used, 'unit', unit, 'limit', "limit", 'burn_rate', burn_rate, 'probability', probability, 'p50', p50
    )
FROM (
    SELECT *, split_part(scope, ':', 1) COLLATE "C" AS dimension, substr(scope, strpos(scope, ':') + 1) AS named,
        CASE kind WHEN 'exhausted' THEN 'critical' WHEN 'burn_slow' THEN 'info' ELSE 'warning' END AS severity
    FROM analytics.quota_alerts
) AS kept;

DROP TABLE analytics.quota_alerts;
