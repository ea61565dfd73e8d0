-- Recommendations, and what operators decided about them.
CREATE TABLE analytics.recommendations (
    id       text        PRIMARY KEY,
    content  jsonb       NOT NULL, -- the finding; from the acceptance on as it was accepted
    found    timestamptz NOT NULL, -- by the first look, and
    seen     timestamptz NOT NULL, -- by the last one that found it
    standing text        NOT NULL, -- 'open', 'accepted', 'rejected', 'snoozed'
    version  bigint      NOT NULL  -- counts the decisions
);

-- All decisions; `version` is that of the recommendation before.
CREATE TABLE analytics.recommendation_decisions (
    id            text        NOT NULL,
    version       bigint      NOT NULL,
    verdict       text        NOT NULL,
    decided_by    text        NOT NULL,
    decided_at    timestamptz NOT NULL,
    note          text        NOT NULL,
    snoozed_until timestamptz, -- NULL but for 'snooze'
    PRIMARY KEY (id, version)
);

-- The last look.
CREATE TABLE analytics.recommendation_look (
    single  boolean     PRIMARY KEY DEFAULT true CHECK (single),
    as_of   timestamptz NOT NULL,
    summary bytea       NOT NULL -- JSON
);
