-- Set the first price of a product behind the ORM's back.
-- Parameters: the amount, the product's key. Result: the price's new revision. O(1).
UPDATE shop_price SET amount = %s, revision = revision + 1 WHERE product_id = %s AND position = 1 RETURNING revision
