-- More sums of fewer dimensions, so that a question reads about one row for each point of its answer. Those of the past
-- are added up from the rows that are there. Commits wait meanwhile: half a minute for some ten million attempts.
SELECT FROM analytics.rollup_state FOR UPDATE;

-- Histograms by provider (slice 4) and of everything (slice 5), from those of models (slice 1).
INSERT INTO analytics.rollup_durations (width, bucket, slice, name, model, measure, bins, counts)
SELECT width, bucket, slice, name, '', measure, array_agg(bin ORDER BY bin), array_agg(n ORDER BY bin)
FROM (
    SELECT width, bucket, slice, name, measure, bin, sum(n)::integer AS n
    FROM (
        SELECT width, bucket, measure, wider.slice, wider.name, unnest(bins) AS bin, unnest(counts) AS n
        FROM analytics.rollup_durations AS of_model, LATERAL (VALUES (4, of_model.name), (5, '')) AS wider (slice, name)
        WHERE of_model.slice = 1
    ) AS one GROUP BY width, bucket, slice, name, measure, bin
) AS summed WHERE n <> 0 GROUP BY width, bucket, slice, name, measure;

CREATE TABLE analytics.rollup_tenant_providers (
    LIKE analytics.rollup_served, PRIMARY KEY (width, bucket, tenant, provider)
) PARTITION BY LIST (width);
ALTER TABLE analytics.rollup_tenant_providers DROP COLUMN content_type, DROP COLUMN model;
CREATE TABLE analytics.rollup_tenant_providers_five_minutes PARTITION OF analytics.rollup_tenant_providers
    FOR VALUES IN (1) WITH (fillfactor = 60);
CREATE TABLE analytics.rollup_tenant_providers_hour PARTITION OF analytics.rollup_tenant_providers FOR VALUES IN (2);
CREATE TABLE analytics.rollup_tenant_providers_day PARTITION OF analytics.rollup_tenant_providers FOR VALUES IN (3);
CREATE TABLE analytics.rollup_tenant_providers_month PARTITION OF analytics.rollup_tenant_providers FOR VALUES IN (4);

INSERT INTO analytics.rollup_tenant_providers (
    width, bucket, tenant, provider,
    cost, estimated_cost, uncertain_cost, failed_cost, cancelled_cost, unknown_cost, hedge_cost, cache_saving,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens, attempts, estimated,
    uncertain, hedges, successes, failures, cancelled, unknown, timed_tokens, timed_us, requests, answered,
    unanswered, failovers, provider_requests, provider_answered, provider_unanswered, provider_failovers,
    model_requests, model_answered, model_unanswered, model_failovers
)
SELECT width, bucket, tenant, provider,
    sum(cost), sum(estimated_cost), sum(uncertain_cost), sum(failed_cost), sum(cancelled_cost), sum(unknown_cost),
    sum(hedge_cost), sum(cache_saving), sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),
    sum(cache_write_tokens), sum(reasoning_tokens), sum(attempts), sum(estimated), sum(uncertain), sum(hedges),
    sum(successes), sum(failures), sum(cancelled), sum(unknown), sum(timed_tokens), sum(timed_us), sum(requests),
    sum(answered), sum(unanswered), sum(failovers), sum(provider_requests), sum(provider_answered),
    sum(provider_unanswered), sum(provider_failovers), sum(model_requests), sum(model_answered),
    sum(model_unanswered), sum(model_failovers)
FROM analytics.rollup_served GROUP BY width, bucket, tenant, provider;

-- Failed attempts by class, without tenants and content types.
CREATE TABLE analytics.rollup_model_failures (
    LIKE analytics.rollup_failures, PRIMARY KEY (width, bucket, provider, model, error_class)
) PARTITION BY LIST (width);
ALTER TABLE analytics.rollup_model_failures DROP COLUMN tenant, DROP COLUMN content_type;
CREATE TABLE analytics.rollup_model_failures_five_minutes PARTITION OF analytics.rollup_model_failures
    FOR VALUES IN (1) WITH (fillfactor = 60);
CREATE TABLE analytics.rollup_model_failures_hour PARTITION OF analytics.rollup_model_failures FOR VALUES IN (2);
CREATE TABLE analytics.rollup_model_failures_day PARTITION OF analytics.rollup_model_failures FOR VALUES IN (3);
CREATE TABLE analytics.rollup_model_failures_month PARTITION OF analytics.rollup_model_failures FOR VALUES IN (4);
INSERT INTO analytics.rollup_model_failures (width, bucket, provider, model, error_class, failures)
SELECT width, bucket, provider, model, error_class, sum(failures)
FROM analytics.rollup_failures GROUP BY width, bucket, provider, model, error_class;
