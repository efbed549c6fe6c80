"""Make a Django site of a plan, in an actor process."""

from collections.abc import Mapping
from typing import Any

from tests.freshness.gates import Gates
from tests.freshness.subjects import SUBJECTS, Subject, settings_of

APP = "tests.freshness.app.apps.StockConfig"


def configure(plan: Mapping[str, Any], gates: Gates) -> Subject:
    """Set Django up with the plan's databases, nodes and subject; return the subject, which has started."""
    import django
    from django.conf import settings

    own = settings_of(plan["subject"], plan)
    apps = own.pop("apps")
    settings.configure(
        SECRET_KEY="a test's key, not a secret",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES=plan["databases"],
        INSTALLED_APPS=["django.contrib.contenttypes", *apps, APP],
        **own,
    )
    django.setup()
    subject = SUBJECTS[plan["subject"]](gates)
    subject.start(plan)
    return subject


def create_tables() -> None:
    """Make the application's tables in every database where they are missing."""
    from django.apps import apps
    from django.db import connections

    for alias in connections:
        connection = connections[alias]
        present = set(connection.introspection.table_names())
        with connection.schema_editor() as editor:
            for model in apps.get_app_config("stock").get_models():
                if model._meta.db_table not in present:
                    editor.create_model(model)
        connection.close()
