-- One row per interaction: its columns, and the first cleaning step that refuses it; null if none does.
-- Steps are tried in the order of the audit.
SELECT
  i.sample_id,
  i.line,
  i.user_id,
  i.item_id,
  i.event,
  i.occurred_at,
  i.value,
  i.price_e4,
  i.session_id,
  i.query_id,
  i.shown_rank,
  CASE
    WHEN i.user_id IS NULL THEN 'missing_user'
    WHEN i.occurred_at IS NULL AND $needs_instants THEN 'impossible_instant'
    WHEN i.occurred_at < $earliest OR i.occurred_at > $latest THEN 'impossible_instant'
    WHEN i.event = 'cancel' OR t.sample_id IS NOT NULL THEN 'cancellations'
    WHEN k.event IS NULL THEN 'events'
    WHEN $positive_value AND NOT i.value > 0 THEN 'positive_value'
    WHEN $positive_price AND NOT i.price_e4 > 0 THEN 'positive_price'
    WHEN x.item_id IS NOT NULL THEN 'exclude_items'
  END AS refused
FROM interactions AS i
LEFT JOIN kept_events AS k ON k.event = i.event
LEFT JOIN excluded_items AS x ON x.item_id = i.item_id
LEFT JOIN taken_back AS t ON t.sample_id = i.sample_id
