-- Count the pieces of a product, behind the ORM's back.
-- Parameters: how many there are, the product's key. Result: the stock's new revision. O(1).
UPDATE shop_inventory SET quantity = %s, revision = revision + 1 WHERE product_id = %s RETURNING revision
