-- One row per distinct interaction that no step refused, in sequence order: of equal records the first
-- as read. Records without an instant differ by their position, so none of them is a duplicate.
WITH numbered AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY user_id, occurred_at, item_id, event, value, price_e4, session_id
      ORDER BY sample_id
    ) AS copy
  FROM labelled
  WHERE refused IS NULL
)
SELECT
  sample_id,
  line,
  user_id,
  item_id,
  event,
  occurred_at,
  value,
  price_e4,
  session_id,
  query_id,
  shown_rank
FROM numbered
WHERE copy = 1 OR occurred_at IS NULL
ORDER BY octet_length(user_id), user_id, occurred_at, sample_id
