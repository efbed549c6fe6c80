"""The zoo as an app: part of the suite's settings, or installed for a while by ``schema.installed``."""

from django.apps import AppConfig


class ZooConfig(AppConfig):
    name = "tests.support.zoo"
    label = "zoo"
    default_auto_field = "django.db.models.BigAutoField"
