"""Who may see customers and write: staff, or a program that sends the shop's token."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt, csrf_protect

View = Callable[..., HttpResponse]


def has_token(request: HttpRequest) -> bool:
    """Tell whether the request carries the token of `SHOP_API_TOKEN`; never, where none is set."""
    token = getattr(settings, "SHOP_API_TOKEN", "")
    return bool(token) and constant_time_compare(request.headers.get("X-Shop-Token", ""), token)


def csrf_unless_token(view: View) -> View:
    """Demand a CSRF token from browsers; a program that sends the shop's token needs none."""
    protected = csrf_protect(view)

    @csrf_exempt
    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return (view if has_token(request) else protected)(request, *args, **kwargs)

    return checked


def staff_or_token(view: View) -> View:
    """Let in staff and programs that send the shop's token; CSRF is checked as in `csrf_unless_token`."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not (has_token(request) or getattr(request.user, "is_staff", False)):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return csrf_unless_token(checked)
