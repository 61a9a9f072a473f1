-- One row per purchase or cancellation of a (user, item) pair that was cancelled at least once, in the
-- order in which it happened.
WITH pairs AS (
  SELECT DISTINCT user_id, item_id
  FROM interactions
  WHERE event = 'cancel' AND user_id IS NOT NULL
)
SELECT
  i.sample_id,
  i.user_id,
  i.item_id,
  i.event,
  i.value
FROM interactions AS i
INNER JOIN pairs AS p ON p.user_id = i.user_id AND p.item_id = i.item_id
WHERE i.event = 'cancel' OR i.event = 'purchase'
ORDER BY i.user_id, i.item_id, i.occurred_at, i.sample_id
