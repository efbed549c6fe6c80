"""A small Django app whose models have every kind of relation, and a generator of queries and row writes over them."""
