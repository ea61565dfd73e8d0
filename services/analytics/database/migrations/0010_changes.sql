-- What operators, and rules in their name, have changed. Written once, never changed.
CREATE TABLE analytics.changes (
    change_id text COLLATE "C" PRIMARY KEY,
    kind      text        NOT NULL, -- of what was changed, and
    name      text        NOT NULL, -- its name within the kind
    version   bigint      NOT NULL, -- counts the changes of one thing; two replicas apart may make the same
    at        timestamptz NOT NULL,
    author    text        NOT NULL,
    reason    text        NOT NULL,
    before    text        NOT NULL, -- JSON; empty: nothing was
    after     text        NOT NULL, -- JSON; empty: nothing is
    undoes    text        NOT NULL  -- the change that it takes back; empty: none
);

CREATE INDEX changes_of_one ON analytics.changes (kind, name, version, at, change_id);
CREATE INDEX changes_by_time ON analytics.changes (at, change_id);
