-- The truth about the sum of a group. Argument: group. Result: sum of versions, number of items. O(items of it).
SELECT coalesce(sum(ver), 0)::bigint, count(*) FROM stock_item WHERE group_id = %s
