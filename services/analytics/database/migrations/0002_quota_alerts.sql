-- What limiters noticed of quotas: one row per limit, kind and window. The latest word on it stands.
CREATE TABLE analytics.quota_alerts (
    scope        text             NOT NULL,
    unit         text             NOT NULL,
    period       text             NOT NULL,
    kind         text             NOT NULL,
    window_start timestamptz      NOT NULL,
    said         timestamptz      NOT NULL,
    raised       timestamptz      NOT NULL,
    cleared      timestamptz, -- NULL while it stands
    "limit"      bigint           NOT NULL,
    used         bigint           NOT NULL,
    burn_rate    double precision NOT NULL,
    probability  double precision, -- NULL where no forecast was made
    p50          double precision, -- seconds; NULL: not before the reset
    PRIMARY KEY (scope, unit, period, kind, window_start)
);

CREATE INDEX quota_alerts_raised ON analytics.quota_alerts (raised);
