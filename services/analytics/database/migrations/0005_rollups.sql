-- Sums of attempts, kept with every commit: see services/analytics/rollups.
--
-- `width` is 1 five minutes, 2 an hour (both of UTC), 3 a day, 4 a month (both of the zone in rollup_state).
CREATE TABLE analytics.rollup_state (
    single        boolean     PRIMARY KEY DEFAULT true CHECK (single),
    zone          text        NOT NULL, -- of days and months
    hours_until   timestamptz NOT NULL, -- rows of hours hold all attempts that began before it, and no other
    days_until    timestamptz NOT NULL, -- rows of days and months likewise; never after hours_until
    kept_from     timestamptz NOT NULL, -- rows of five minutes before it have been deleted
    rebuild_next  timestamptz,          -- hours in [rebuild_next, rebuild_until) are not counted yet; NULL: none
    rebuild_until timestamptz,
    last_commit   timestamptz,
    last_lag_us   bigint                -- from the end of its oldest attempt to the last commit
);
-- Locked and written by every commit: its page needs room for the new version.
ALTER TABLE analytics.rollup_state SET (fillfactor = 10);

CREATE TABLE analytics.rollup_served (
    width              smallint    NOT NULL,
    bucket             timestamptz NOT NULL,
    tenant             text        NOT NULL,
    content_type       text        NOT NULL,
    provider           text        NOT NULL,
    model              text        NOT NULL,
    cost               bigint      NOT NULL,
    estimated_cost     bigint      NOT NULL,
    uncertain_cost     bigint      NOT NULL,
    failed_cost        bigint      NOT NULL,
    cancelled_cost     bigint      NOT NULL,
    unknown_cost       bigint      NOT NULL,
    hedge_cost         bigint      NOT NULL,
    cache_saving       bigint      NOT NULL,
    input_tokens       bigint      NOT NULL,
    output_tokens      bigint      NOT NULL,
    cache_read_tokens  bigint      NOT NULL,
    cache_write_tokens bigint      NOT NULL,
    reasoning_tokens   bigint      NOT NULL,
    timed_tokens       bigint      NOT NULL,
    timed_us           bigint      NOT NULL,
    attempts           integer     NOT NULL,
    estimated          integer     NOT NULL,
    uncertain          integer     NOT NULL,
    successes          integer     NOT NULL,
    failures           integer     NOT NULL,
    cancelled          integer     NOT NULL,
    unknown            integer     NOT NULL,
    hedges             integer     NOT NULL,
    -- Of requests, by their first attempt at all, at the provider, and at the model.
    requests           integer     NOT NULL,
    answered           integer     NOT NULL,
    unanswered         integer     NOT NULL,
    failovers          integer     NOT NULL,
    provider_requests   integer    NOT NULL,
    provider_answered   integer    NOT NULL,
    provider_unanswered integer    NOT NULL,
    provider_failovers  integer    NOT NULL,
    model_requests     integer     NOT NULL,
    model_answered     integer     NOT NULL,
    model_unanswered   integer     NOT NULL,
    model_failovers    integer     NOT NULL,
    PRIMARY KEY (width, bucket, tenant, content_type, provider, model)
) PARTITION BY LIST (width);

-- The same without models, without tenants, and of models alone: many times fewer rows, for the questions that need no more.
CREATE TABLE analytics.rollup_tenants (
    LIKE analytics.rollup_served, PRIMARY KEY (width, bucket, tenant, content_type)
) PARTITION BY LIST (width);
ALTER TABLE analytics.rollup_tenants DROP COLUMN provider, DROP COLUMN model;
CREATE TABLE analytics.rollup_models (
    LIKE analytics.rollup_served, PRIMARY KEY (width, bucket, content_type, provider, model)
) PARTITION BY LIST (width);
ALTER TABLE analytics.rollup_models DROP COLUMN tenant;

CREATE TABLE analytics.rollup_providers (
    LIKE analytics.rollup_served, PRIMARY KEY (width, bucket, provider, model)
) PARTITION BY LIST (width);
ALTER TABLE analytics.rollup_providers DROP COLUMN tenant, DROP COLUMN content_type;

CREATE TABLE analytics.rollup_paid (
    width              smallint    NOT NULL,
    bucket             timestamptz NOT NULL,
    tenant             text        NOT NULL,
    campaign           text        NOT NULL,
    cost               bigint      NOT NULL,
    estimated_cost     bigint      NOT NULL,
    uncertain_cost     bigint      NOT NULL,
    failed_cost        bigint      NOT NULL,
    cancelled_cost     bigint      NOT NULL,
    unknown_cost       bigint      NOT NULL,
    hedge_cost         bigint      NOT NULL,
    cache_saving       bigint      NOT NULL,
    input_tokens       bigint      NOT NULL,
    output_tokens      bigint      NOT NULL,
    cache_read_tokens  bigint      NOT NULL,
    cache_write_tokens bigint      NOT NULL,
    reasoning_tokens   bigint      NOT NULL,
    attempts           integer     NOT NULL,
    estimated          integer     NOT NULL,
    uncertain          integer     NOT NULL,
    hedges             integer     NOT NULL,
    requests           integer     NOT NULL,
    PRIMARY KEY (width, bucket, tenant, campaign)
) PARTITION BY LIST (width);

-- Failed attempts by class.
CREATE TABLE analytics.rollup_failures (
    width        smallint    NOT NULL,
    bucket       timestamptz NOT NULL,
    tenant       text        NOT NULL,
    content_type text        NOT NULL,
    provider     text        NOT NULL,
    model        text        NOT NULL,
    error_class  text        NOT NULL,
    failures     integer     NOT NULL,
    PRIMARY KEY (width, bucket, tenant, content_type, provider, model, error_class)
) PARTITION BY LIST (width);

-- Histograms of successful attempts with logarithmic bins, one for each model, tenant and content type: `counts` has the
-- attempts of each bin in `bins`, which rise; empty ones are left out.
CREATE TABLE analytics.rollup_durations (
    width    smallint    NOT NULL,
    bucket   timestamptz NOT NULL,
    slice    smallint    NOT NULL, -- 1 by model, 2 by tenant, 3 by content type
    name     text        NOT NULL, -- of the provider, tenant or content type
    model    text        NOT NULL, -- '' in slices 2 and 3
    measure  smallint    NOT NULL, -- 1 latency, 2 time to first token of streams
    bins     smallint[]  NOT NULL,
    counts   integer[]   NOT NULL,
    PRIMARY KEY (width, bucket, slice, name, model, measure)
) PARTITION BY LIST (width);

DO $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY[
        'rollup_served', 'rollup_tenants', 'rollup_models', 'rollup_providers', 'rollup_paid', 'rollup_failures',
        'rollup_durations'
    ] LOOP
        -- Rows of five minutes are updated by every commit; room on their page saves work on their index.
        EXECUTE format(
            'CREATE TABLE analytics.%I PARTITION OF analytics.%I FOR VALUES IN (1) WITH (fillfactor = 60)',
            parent || '_five_minutes', parent);
        EXECUTE format('CREATE TABLE analytics.%I PARTITION OF analytics.%I FOR VALUES IN (2)', parent || '_hour', parent);
        EXECUTE format('CREATE TABLE analytics.%I PARTITION OF analytics.%I FOR VALUES IN (3)', parent || '_day', parent);
        EXECUTE format('CREATE TABLE analytics.%I PARTITION OF analytics.%I FOR VALUES IN (4)', parent || '_month', parent);
    END LOOP;
END $$;

-- What the provider's prompt cache saved, as the router priced it.
ALTER TABLE analytics.attempts ADD COLUMN cache_saving_micro_usd bigint NOT NULL DEFAULT 0;

-- Attempts that were there before are counted by a rebuild; from this hour on they are counted as they come.
INSERT INTO analytics.rollup_state (zone, hours_until, days_until, kept_from, rebuild_next, rebuild_until)
SELECT 'UTC', this_hour, coalesce(date_trunc('month', first, 'UTC'), this_hour), this_hour - interval '48 hours',
    date_trunc('hour', first, 'UTC'),
    CASE WHEN first IS NOT NULL THEN greatest(date_trunc('hour', last, 'UTC'), this_hour) + interval '1 hour' END
FROM (SELECT min(started) AS first, max(started) AS last FROM analytics.attempts) AS there,
    (SELECT date_trunc('hour', now(), 'UTC') AS this_hour) AS clock;
