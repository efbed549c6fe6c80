-- Let the COMMIT of this transaction take longer. Argument: seconds. O(1).
INSERT INTO stock_pause VALUES (%s)
