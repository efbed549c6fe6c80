"""The example shop's settings. Everything that differs between places comes from the environment.

DISTCACHE_REDIS_URLS   the cache nodes: "cache-a=redis://10.0.0.1:6379/0,cache-b=redis://…", or bare URLs
DISTCACHE_MARK_TIMEOUT seconds; see MARK_TIMEOUT in the settings' reference (default: 5)
DATABASE_URL           postgresql://user:password@host:port/name, or sqlite:///path (the default)
DEBUG, SECRET_KEY      a secret key must be given unless DEBUG is on
ALLOWED_HOSTS          host names, separated by commas
HTTPS                  off where the site is served without TLS; on by default outside DEBUG
SERVE_STATIC           let Django serve style sheets itself (the demo does; a web server does it better)
SHOP_API_TOKEN         opens customer pages and writes to a client that sends it (the load generator)
CELERY_BROKER_URL      where tasks are queued
"""

import os
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from example_project import environment

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = environment.flag("DEBUG", default=False)
SECRET_KEY = os.environ.get("SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("Set SECRET_KEY, or DEBUG=1 on your own machine.")
    SECRET_KEY = "for-development-only-" + "not-a-secret-" * 4
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")

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

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "example_project.shop.middleware.report_cost",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": environment.database("DATABASE_URL", f"sqlite:///{BASE_DIR / 'shop.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "distcache_django.DistributedCache",
        "LOCATION": environment.nodes("DISTCACHE_REDIS_URLS", "redis://127.0.0.1:6379/0"),
        "TIMEOUT": 300,
        "KEY_PREFIX": "shop",
    },
}

# Answers of the ORM are cached, and end with the commit that changes them. `by`: lists by these fields end only with
# writes of their own rows.
DISTCACHE: dict[str, Any] = {
    "MODELS": {
        "shop.product": {"timeout": 600, "by": ["category", "brand"]},
        "shop.price": {"timeout": 600, "by": ["product"]},
        "shop.order": {"timeout": 600, "by": ["customer"]},
        "shop.*": {"timeout": 600},
    },
    "MARK_TIMEOUT": environment.seconds("DISTCACHE_MARK_TIMEOUT", 5.0),
}

SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "build" / "static"
SERVE_STATIC = environment.flag("SERVE_STATIC", default=DEBUG)

SHOP_API_TOKEN = os.environ.get("SHOP_API_TOKEN", "")

HTTPS = environment.flag("HTTPS", default=not DEBUG)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/1")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
