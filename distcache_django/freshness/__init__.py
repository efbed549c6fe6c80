"""Keep cached answers as fresh as the database: versions, marks and leases.

What the backend's ``get_or_load``, the ORM cache and the write patterns share. ``docs/explanation/freshness.md``
explains the protocol.
"""
