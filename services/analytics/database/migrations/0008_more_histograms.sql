-- Histograms by provider (slice 4) and of everything (slice 5), so that a question by five minutes reads one row for
-- each point and not one for each model. Those of the past are added up from those of models (slice 1). Commits wait
-- meanwhile: half a minute for some 30,000 hours of ten models.
SELECT FROM analytics.rollup_state FOR UPDATE;

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
