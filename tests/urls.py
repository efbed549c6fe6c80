"""The suite's URL configuration: empty; a test that needs views overrides ROOT_URLCONF."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
