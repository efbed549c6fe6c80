"""The pure part: placement, effects, requests, coordination and membership. It does no I/O and reads no clock."""
