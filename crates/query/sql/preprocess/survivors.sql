-- One row per interaction that no step refused, in sequence order; `copy` counts equal records, from 1.
SELECT
  sample_id,
  user_id,
  item_id,
  event,
  occurred_at,
  value,
  price_e4,
  session_id,
  query_id,
  shown_rank,
  row_number() OVER (
    PARTITION BY user_id, item_id, event, occurred_at, value, price_e4, session_id
    ORDER BY sample_id
  ) AS copy
FROM labelled
WHERE refused IS NULL
ORDER BY octet_length(user_id), user_id, occurred_at, sample_id
