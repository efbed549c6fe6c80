-- Add 1 to the version of an item, past the ORM. Argument: item. O(1).
UPDATE stock_item SET ver = ver + 1 WHERE id = %s
