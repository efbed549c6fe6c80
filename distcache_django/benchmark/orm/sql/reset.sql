-- Bring the tables back to their beginning: %(items)s items at version 0, item N in group N mod %(groups)s + 1,
-- nothing tagged. O(items).

TRUNCATE stock_pause, stock_item_tags, stock_item, stock_tag, stock_group RESTART IDENTITY;
INSERT INTO stock_group (name) SELECT 'group ' || number FROM generate_series(1, %(groups)s) AS number;
INSERT INTO stock_tag (name) SELECT 'tag ' || number FROM generate_series(1, %(tags)s) AS number;
INSERT INTO stock_item (name, ver, group_id)
    SELECT 'item ' || number, 0, number %% %(groups)s + 1 FROM generate_series(1, %(items)s) AS number;
ANALYZE stock_item;
