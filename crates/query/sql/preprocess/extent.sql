-- One row for the whole log: its rows, and those with an instant.
SELECT
  count(*) AS n_rows,
  count(occurred_at) AS n_instants
FROM interactions
ORDER BY n_rows
