"""Carry requests to Redis and Valkey nodes: wire forms, links and the two drivers."""
