from django.apps import AppConfig


class StockConfig(AppConfig):
    name = "tests.freshness.app"
    label = "stock"
    default_auto_field = "django.db.models.BigAutoField"
