"""Products, prices, stock, customers and orders: what the example site sells and shows."""
