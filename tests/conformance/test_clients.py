"""What sites already use goes on as it was: sessions, the cache middleware, fragments, throttles. On four nodes."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.cache.utils import make_template_fragment_key
from django.test import AsyncClient, Client, override_settings

from tests.support import subjects
from tests.support.nodes import Nodes

pytestmark = pytest.mark.servers

SITE = {
    "ROOT_URLCONF": "tests.support.client_site",
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
}
WHOLE_SITE = {
    "ROOT_URLCONF": "tests.support.client_site",
    "MIDDLEWARE": [
        "django.middleware.cache.UpdateCacheMiddleware",
        "django.middleware.cache.FetchFromCacheMiddleware",
    ],
    "CACHE_MIDDLEWARE_SECONDS": 60,
}
SESSIONS = ["django.contrib.sessions.backends.cache", "django.contrib.sessions.backends.cached_db"]


@pytest.fixture(autouse=True)
def site(nodes: Nodes) -> Iterator[None]:
    """A site whose only cache is the one under test."""
    subject = subjects.chosen()
    count = 4 if subjects.SUBJECTS[subject].is_sharded else 1
    with override_settings(CACHES={"default": subjects.alias(subject, nodes.at(count))}, **SITE):
        yield


def body(path: str, client: Client | None = None, **options: Any) -> str:
    response = (client or Client()).get(path, **options)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("engine", SESSIONS)
def test_session_remembers_across_requests(engine: str) -> None:
    with override_settings(SESSION_ENGINE=engine):
        first, second = Client(), Client()

        assert [body(f"/remember/?say={word}", first) for word in "abc"] == ["a", "a,b", "a,b,c"]
        assert body("/remember/?say=x", second) == "x"
        assert body("/remember/?say=d", first) == "a,b,c,d"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("engine", SESSIONS)
async def test_session_remembers_across_awaited_requests(engine: str) -> None:
    with override_settings(SESSION_ENGINE=engine):
        client = AsyncClient()

        answers = [(await client.get(f"/aremember/?say={word}")).content for word in "abc"]

        assert answers == [b"a", b"a,b", b"a,b,c"]


@pytest.mark.django_db
@pytest.mark.parametrize("engine", SESSIONS)
def test_session_store_keeps_its_contract(engine: str) -> None:
    store = import_module(engine).SessionStore
    session = store()
    session["user"] = "ada"
    session.create()
    key = session.session_key

    assert store(key)["user"] == "ada"
    session.cycle_key()
    assert session.session_key != key
    assert store(session.session_key)["user"] == "ada"
    assert store(key).get("user") is None
    assert session.exists(session.session_key)
    session.flush()
    assert session.session_key is None


@pytest.mark.django_db
def test_expired_session_is_forgotten(nodes: Nodes) -> None:
    store = import_module(SESSIONS[0]).SessionStore
    session = store()
    session.set_expiry(300)
    session["user"] = "ada"
    session.save()
    cache.touch(session.cache_key, 0)

    assert store(session.session_key).get("user") is None


@pytest.mark.django_db
def test_cached_db_session_survives_an_emptied_cache() -> None:
    with override_settings(SESSION_ENGINE=SESSIONS[1]):
        client = Client()
        body("/remember/?say=a", client)
        cache.clear()

        assert body("/remember/?say=b", client) == "a,b"


@pytest.mark.django_db
@pytest.mark.parametrize("engine", SESSIONS)
def test_login_and_logout(engine: str) -> None:
    user = get_user_model().objects.create_user("ada", password="engine")
    with override_settings(SESSION_ENGINE=engine):
        client = Client()
        client.force_login(user)
        body("/remember/?say=a", client)

        assert client.session["_auth_user_id"] == str(user.pk)
        client.logout()
        assert "_auth_user_id" not in client.session
        assert body("/remember/?say=b", client) == "b"


def test_cache_page_keeps_a_page_for_its_path_and_query() -> None:
    first = body("/page/")

    assert body("/page/") == first
    assert body("/page/?p=2") != first
    assert body("/page/?p=2") == body("/page/?p=2")


def test_cached_page_keeps_its_headers() -> None:
    Client().get("/page/")
    again = Client().get("/page/")

    assert again["Cache-Control"].startswith("max-age=")
    assert again["Expires"]


def test_page_varies_by_the_headers_it_names() -> None:
    books, music = ({"X-Shop": name} for name in ("books", "music"))
    first = body("/shop/", headers=books)

    assert body("/shop/", headers=music) != first
    assert body("/shop/", headers=books) == first


def test_page_varies_by_cookie() -> None:
    ada, bob = Client(), Client()
    ada.cookies["who"], bob.cookies["who"] = "ada", "bob"
    first = body("/cookie/", ada)

    assert body("/cookie/", bob) != first
    assert body("/cookie/", ada) == first


@override_settings(**WHOLE_SITE)
def test_middleware_keeps_the_whole_site() -> None:
    first = body("/plain/")

    assert body("/plain/") == first
    assert body("/plain/?q=1") != first
    assert Client().head("/plain/").status_code == 200


@override_settings(**WHOLE_SITE)
@pytest.mark.parametrize("path", ["/private/", "/never/"])
def test_middleware_leaves_what_must_not_be_kept(path: str) -> None:
    assert body(path) != body(path)


def test_emptied_cache_renders_anew() -> None:
    first = body("/page/")
    cache.clear()

    assert body("/page/") != first


def test_template_fragment_is_kept_for_its_values() -> None:
    first = body("/fragment/?user=ada")

    assert body("/fragment/?user=ada") == first
    assert body("/fragment/?user=bob") != first
    assert body("/fragment/?user=ada&lang=de") != first


def test_template_fragment_is_dropped_by_its_key() -> None:
    first = body("/fragment/?user=ada")

    assert cache.delete(make_template_fragment_key("sidebar", ["ada", "en"])) is True
    assert body("/fragment/?user=ada") != first


def test_rest_framework_throttles() -> None:
    statuses = [Client().get("/throttled/", REMOTE_ADDR="10.0.0.1").status_code for _ in range(13)]

    assert statuses == [200] * 10 + [429] * 3
    assert Client().get("/throttled/", REMOTE_ADDR="10.0.0.2").status_code == 200


def test_ratelimit_counts_each_address() -> None:
    from django.test import RequestFactory
    from django_ratelimit.core import is_ratelimited

    def is_limited(address: str) -> bool:
        request = RequestFactory().get("/", REMOTE_ADDR=address)
        return bool(is_ratelimited(request, group="shop", key="ip", rate="5/d", increment=True))

    assert [is_limited("10.0.0.1") for _ in range(7)] == [False] * 5 + [True] * 2
    assert is_limited("10.0.0.2") is False
