-- One row per cleaning step that refused something, and one named `kept`: how many rows.
SELECT
  coalesce(refused, 'kept') AS step,
  count(*) AS n_rows
FROM labelled
GROUP BY refused
ORDER BY step
