-- One row per purchase that a later cancellation takes back: the n-th purchase of the same user, item
-- and quantity answers to the n-th cancellation.
WITH purchases AS (
  SELECT
    sample_id, user_id, item_id, value, occurred_at,
    row_number() OVER (
      PARTITION BY user_id, item_id, value ORDER BY occurred_at, sample_id
    ) AS turn
  FROM interactions
  WHERE event = 'purchase' AND user_id IS NOT NULL
),
cancellations AS (
  SELECT
    user_id, item_id, -value AS value, occurred_at,
    row_number() OVER (
      PARTITION BY user_id, item_id, value ORDER BY occurred_at, sample_id
    ) AS turn
  FROM interactions
  WHERE event = 'cancel' AND user_id IS NOT NULL
)
SELECT p.sample_id
FROM purchases AS p
INNER JOIN cancellations AS c
  ON c.user_id = p.user_id AND c.item_id = p.item_id AND c.value = p.value AND c.turn = p.turn
WHERE p.occurred_at <= c.occurred_at
ORDER BY p.sample_id
