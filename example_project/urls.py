"""The example site's addresses: the shop and the admin."""

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles import views as staticfiles
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", include("example_project.shop.urls")),
]

if getattr(settings, "SERVE_STATIC", False):
    urlpatterns.append(path("static/<path:path>", staticfiles.serve, {"insecure": True}))
