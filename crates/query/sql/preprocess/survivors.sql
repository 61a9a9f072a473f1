-- One row per interaction that no step refused, in sequence order.
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
FROM labelled
WHERE refused IS NULL
ORDER BY octet_length(user_id), user_id, occurred_at, sample_id
