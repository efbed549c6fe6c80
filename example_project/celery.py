"""The example's Celery application: `celery -A example_project worker --beat` runs the cache's jobs."""

import os

import celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

app = celery.Celery("example_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
