"""The shop as a Django application."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """The example shop."""

    name = "example_project.shop"
    verbose_name = "Shop"

    def ready(self) -> None:
        from example_project.shop import signals  # noqa: PLC0415 (models are loaded by now, not before)

        signals.connect()
