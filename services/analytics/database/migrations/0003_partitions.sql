-- Cuts attempts by ranges of their id: one unique key still, and old weeks can be dropped as a whole.
--
-- Today's table stays where it is and becomes the partition of all ids below `bound`: the random ones of earlier
-- versions, and the time-ordered ones made up to a day or two from now (routers may have been replaced before this
-- service). Nothing is copied. `prepare_attempts` in postgres_partitions.py has done beforehand, without keeping
-- anybody from writing, what would take long here: it has proved that no row is above the bound, and built the index
-- on request_id. Where it has not, this does the same while it holds the lock; on an empty table that is no time.
CREATE TABLE analytics.partitions (
    name   text        PRIMARY KEY, -- of the partition, in this schema
    parent text        NOT NULL,    -- of the table that it is a part of
    since  timestamptz,             -- the range of time of its ids, in which NULL is from the beginning
    until  timestamptz NOT NULL
);

DO $$
DECLARE
    bound text;
    until timestamptz := timestamptz 'epoch';
BEGIN
    LOCK TABLE analytics.attempts IN ACCESS EXCLUSIVE MODE;
    SELECT obj_description(oid, 'pg_constraint') INTO bound FROM pg_constraint
    WHERE conrelid = 'analytics.attempts'::regclass AND conname = 'attempts_before';
    IF bound IS NOT NULL THEN
        until := timestamptz 'epoch' + substr(bound, 2)::bigint * interval '1 millisecond';
    ELSE
        IF EXISTS (SELECT FROM analytics.attempts) THEN
            until := date_trunc('day', now(), 'UTC') + interval '2 days';
        END IF;
        bound := 't' || lpad((extract(epoch FROM until) * 1000)::bigint::text, 13, '0');
    END IF;
    -- Rows of ids that no version of ours has made.
    CREATE TABLE IF NOT EXISTS analytics.attempts_default
        (LIKE analytics.attempts INCLUDING DEFAULTS INCLUDING INDEXES);
    WITH moved AS (DELETE FROM analytics.attempts WHERE attempt_id >= bound RETURNING *)
    INSERT INTO analytics.attempts_default SELECT * FROM moved;

    ALTER TABLE analytics.attempts RENAME TO attempts_old;
    ALTER INDEX analytics.attempts_pkey RENAME TO attempts_old_pkey;
    ALTER INDEX analytics.attempts_started RENAME TO attempts_old_started;
    CREATE TABLE analytics.attempts (LIKE analytics.attempts_old INCLUDING DEFAULTS, PRIMARY KEY (attempt_id))
        PARTITION BY RANGE (attempt_id);
    CREATE INDEX attempts_started ON analytics.attempts (started);
    CREATE INDEX attempts_request ON analytics.attempts (request_id);
    EXECUTE format(
        'ALTER TABLE analytics.attempts ATTACH PARTITION analytics.attempts_old FOR VALUES FROM (MINVALUE) TO (%L)',
        bound
    );
    ALTER TABLE analytics.attempts ATTACH PARTITION analytics.attempts_default DEFAULT;
    ALTER TABLE analytics.attempts_old DROP CONSTRAINT IF EXISTS attempts_before;
    INSERT INTO analytics.partitions (name, parent, until) VALUES ('attempts_old', 'attempts', until);
END
$$;
