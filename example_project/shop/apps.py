"""The shop as a Django application."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created


class ShopConfig(AppConfig):
    """The example shop."""

    name = "example_project.shop"
    verbose_name = "Shop"

    def ready(self) -> None:
        from example_project.shop.middleware import watch  # noqa: PLC0415 (settings are read by now, not before)

        connection_created.connect(watch)
