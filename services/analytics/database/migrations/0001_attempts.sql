-- The ledger: one row per provider attempt.
--
-- attempt_id is the only unique key and nothing refers to it, so the table can become one partitioned by hash of
-- attempt_id without a change to the statements that use it.
-- Durations are microseconds, money is micro-USD, NULL means not known. Enumerations are kept as text so that a person
-- can read the table and a new value needs no migration.
CREATE TABLE analytics.attempts (
    attempt_id         text        PRIMARY KEY,
    request_id         text        NOT NULL,
    attempt_number     integer     NOT NULL,
    tenant             text        NOT NULL,
    campaign           text        NOT NULL,
    content_type       text        NOT NULL,
    provider           text        NOT NULL,
    model              text        NOT NULL,
    started            timestamptz NOT NULL,
    latency_us         bigint,
    ttft_us            bigint,
    outcome            text        NOT NULL,
    error_class        text        NOT NULL, -- '' where it did not fail or the class is not known
    http_status        integer     NOT NULL, -- 0 where there was none
    input_tokens       bigint      NOT NULL,
    output_tokens      bigint      NOT NULL,
    cache_read_tokens  bigint      NOT NULL,
    cache_write_tokens bigint      NOT NULL,
    reasoning_tokens   bigint      NOT NULL,
    accuracy           text        NOT NULL,
    cost_micro_usd     bigint      NOT NULL,
    finish_reason      text        NOT NULL, -- '' where it did not finish
    streamed           boolean     NOT NULL,
    hedge              boolean     NOT NULL,
    labels             jsonb,
    trace_id           text        NOT NULL,
    rank               smallint    NOT NULL, -- a record replaces this row only with a higher one
    recorded_at        timestamptz NOT NULL DEFAULT now(),
    replaced_at        timestamptz
);

-- Every question names a range of time.
CREATE INDEX attempts_started ON analytics.attempts (started);
