"""One process of a load: `python -m distcache_django.benchmark.orm.worker`, started by `crew`.

It has its own Django settings, those of one subject's site, for libraries that patch the ORM cannot share a
process.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from typing import Any

import django
from django.conf import settings

from distcache_django.benchmark.channel import Channel
from distcache_django.benchmark.orm.measured import MeasuredCursor
from distcache_django.benchmark.orm.subjects import SUBJECTS, Subject


def main(channel: Channel) -> None:
    """Take a job from the channel, play its part and hand the result back."""
    job = channel.receive()
    logging.basicConfig(level=logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    (subject,) = [each for each in SUBJECTS if each.name == job["subject"]]
    configure(subject, job)
    # Models can be imported once the applications are loaded.
    roles = importlib.import_module("distcache_django.benchmark.orm.roles")
    stage = roles.set_stage(job | {"way": subject.way}, channel)
    channel.finish(roles.ROLES[job["role"]](stage))


def configure(subject: Subject, job: dict[str, Any]) -> None:
    """Set Django up as the subject's site."""
    database = job["database"] | {"CONN_MAX_AGE": None, "OPTIONS": {"cursor_factory": MeasuredCursor}}
    settings.configure(
        DATABASES={"default": database},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SECRET_KEY="benchmark only: signs the values of this run",
        USE_TZ=True,
        TIME_ZONE="UTC",
        **subject.settings(job["urls"], job["prefix"]),
    )
    django.setup()


if __name__ == "__main__":
    main(Channel.over_standard_streams())
    sys.stderr.flush()
    # Clients leave threads behind that complain, or hang, at an orderly end.
    os._exit(0)
