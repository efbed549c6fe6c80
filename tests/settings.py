"""The settings of the test suite: everything in memory, nothing outside the machine."""

from example_project import environment

SECRET_KEY = "test-key-of-the-suite-not-a-secret"
DEBUG = False
USE_TZ = True
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "tests.urls"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "distcache_django",
    "example_project.shop",
]
STATIC_URL = "static/"

DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

_nodes = environment.nodes("DISTCACHE_REDIS_URLS", "")

# Tests of the backend make their own caches on nodes they start; the alias here only has to exist.
CACHES: dict[str, dict[str, object]] = {
    "default": {"BACKEND": "distcache_django.DistributedCache", "LOCATION": _nodes}
    if _nodes
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
