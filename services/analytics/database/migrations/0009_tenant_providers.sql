-- Sums by tenant and provider: a tenth of the rows that also tell content types and models apart. Those of the past are
-- added up from them. Commits wait meanwhile: a minute for some ten million attempts.
SELECT FROM analytics.rollup_state FOR UPDATE;

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
