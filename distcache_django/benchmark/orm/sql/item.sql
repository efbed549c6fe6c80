-- The truth about an item. Argument: item. Result: version, group. O(1).
SELECT ver, group_id FROM stock_item WHERE id = %s
