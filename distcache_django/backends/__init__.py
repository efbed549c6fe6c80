"""The cache backend that sites set in ``CACHES``."""
