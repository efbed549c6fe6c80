"""Writes of every kind over the zoo, each with what it must be reported to touch; and a judge who saw the rows."""

from tests.support.deeds import deleting, inserting, updating
from tests.support.deeds.ground import changed_rows, populate, refill, rows_of, tables, told, unreported
from tests.support.deeds.models import MODELS, OWN, Entry
from tests.support.deeds.naming import DEEDS

__all__ = [
    "DEEDS",
    "MODELS",
    "OWN",
    "Entry",
    "changed_rows",
    "deleting",
    "inserting",
    "populate",
    "refill",
    "rows_of",
    "tables",
    "told",
    "unreported",
    "updating",
]
