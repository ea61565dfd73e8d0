-- The price that each attempt's cost was computed with; '' where it is not known.
ALTER TABLE analytics.attempts ADD COLUMN price_version text NOT NULL DEFAULT '';

-- One row per request: what its caller saw, and what was decided. Cut by ranges of the key like attempts.
CREATE TABLE analytics.requests (
    record_id              text        PRIMARY KEY,
    request_id             text        NOT NULL,
    tenant                 text        NOT NULL,
    campaign               text        NOT NULL,
    content_type           text        NOT NULL,
    labels                 jsonb,
    started                timestamptz NOT NULL,
    latency_us             bigint      NOT NULL,
    ttft_us                bigint,
    outcome                text        NOT NULL,
    error_reason           text        NOT NULL, -- '' where its caller got no error
    attempts               integer     NOT NULL,
    failed_over            boolean     NOT NULL,
    degradation            text        NOT NULL,
    strategy               text        NOT NULL,
    policy                 text        NOT NULL,
    policy_version         text        NOT NULL,
    estimated_input_tokens bigint      NOT NULL,
    max_output_tokens      bigint      NOT NULL,
    capabilities           text[]      NOT NULL,
    candidates             jsonb       NOT NULL, -- an array of arrays, the fields of ConsideredModel in their order
    provider               text        NOT NULL, -- '' where none gave the answer
    model                  text        NOT NULL,
    probability            real,
    queued_us              bigint      NOT NULL,
    paused_us              bigint      NOT NULL,
    cost_micro_usd         bigint      NOT NULL,
    streamed               boolean     NOT NULL,
    cached                 boolean     NOT NULL,
    trace_id               text        NOT NULL,
    recorded_at            timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (record_id);

CREATE INDEX requests_started ON analytics.requests (started);
CREATE INDEX requests_request ON analytics.requests (request_id);

CREATE TABLE analytics.requests_old PARTITION OF analytics.requests FOR VALUES FROM (MINVALUE) TO ('t0000000000000');
CREATE TABLE analytics.requests_default PARTITION OF analytics.requests DEFAULT;
INSERT INTO analytics.partitions (name, parent, until) VALUES ('requests_old', 'requests', timestamptz 'epoch');
