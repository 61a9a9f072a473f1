-- One row per cleaning step that refused something: its name and how many rows it refused.
SELECT
  coalesce(refused, 'kept') AS step,
  count(*) AS n_rows
FROM labelled
GROUP BY refused
ORDER BY step
