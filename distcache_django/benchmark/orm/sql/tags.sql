-- The truth about the tags of an item. Argument: item. Result: tags, ascending. O(tags of it).
SELECT tag_id FROM stock_item_tags WHERE item_id = %s ORDER BY tag_id
