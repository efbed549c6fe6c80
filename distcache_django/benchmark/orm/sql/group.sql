-- The truth about the items of a group. Argument: group. Result: item and version of each, by item. O(items of it).
SELECT id, ver FROM stock_item WHERE group_id = %s ORDER BY id
