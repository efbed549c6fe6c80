"""The site under load: its database, its data and its server processes."""

import http.client
import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from distcache_django.testing.postgres import LocalPostgres
from distcache_django.testing.processes import MissingServer, ServerFailed
from example_project.demo.processes import PROJECT, Child, ProcessFailed

THREADS = 4
START_TIMEOUT = 30.0
POLL_INTERVAL = 0.05


def open_database(stack: ExitStack, choice: str, directory: Path) -> tuple[str, str]:
    """Start PostgreSQL, or fall back to SQLite; return the database's URL and what to say about it."""
    reason = "as asked for"
    if choice != "sqlite":
        server = LocalPostgres()
        try:
            server.start()
        except (MissingServer, ServerFailed) as error:
            if choice == "postgresql":
                raise
            reason = f"PostgreSQL does not run here: {str(error).splitlines()[0]}"
        else:
            stack.callback(server.close)
            return server.dsn, "PostgreSQL"
    return f"sqlite:///{directory / 'shop.sqlite3'}", f"SQLite ({reason})"


def site_environment(
    database_url: str, node_urls: Mapping[str, str], token: str, *, mark_timeout: float
) -> dict[str, str]:
    """Give the variables that the example's settings read."""
    return {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "SECRET_KEY": secrets.token_urlsafe(40),
        "DEBUG": "0",
        "HTTPS": "0",
        "SERVE_STATIC": "1",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "DATABASE_URL": database_url,
        "DISTCACHE_REDIS_URLS": ",".join(f"{name}={url}" for name, url in node_urls.items()),
        "DISTCACHE_MARK_TIMEOUT": str(mark_timeout),
        "SHOP_API_TOKEN": token,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")])),
    }


def load_data(environment: Mapping[str, str], log: Path, *, products: int, seed: int) -> None:
    """Make the tables and fill the shop; a shop that already has so many products is left as it is."""
    rows = ["--products", str(products), "--seed", str(seed), "--if-empty"]
    for command in (["migrate", "--verbosity=0", "--noinput"], ["load_shop", *rows]):
        child = Child(["manage.py", *command], environment=environment, log=log)
        try:
            child.finish()
        finally:
            child.stop()


class Site:
    """The shop served by real server processes: Gunicorn's for most pages, Uvicorn's for asynchronous ones.

    The listening sockets are opened here and handed over, so that no port is guessed.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path, *, workers: int) -> None:
        self._environment = environment
        self._directory = directory
        self._workers = workers
        self._children: list[Child] = []
        self._sockets: list[socket.socket] = []
        self.sync_port = self.async_port = 0

    def start(self) -> None:
        """Start the servers and return when they answer."""
        settings = Path(__file__).with_name("server_settings.py")
        options = ["--workers", str(self._workers), "--threads", str(THREADS)]
        gunicorn = [
            "-m",
            "gunicorn",
            "--config",
            str(settings),
            *options,
            "--worker-tmp-dir",
            str(self._directory),
        ]
        self.sync_port = self._serve([*gunicorn, "--bind", "fd://{}", "example_project.wsgi:application"], "wsgi")
        self.async_port = self.sync_port
        if find_spec("uvicorn"):
            uvicorn = [
                "-m",
                "uvicorn",
                "--log-level",
                "warning",
                "--timeout-keep-alive",
                "75",
                "--lifespan",
                "off",
            ]
            self.async_port = self._serve([*uvicorn, "--fd", "{}", "example_project.asgi:application"], "asgi")
        for port, child in zip((self.sync_port, self.async_port), self._children, strict=False):
            _wait_until_it_answers(port, child)

    @property
    def address(self) -> str:
        """Give the address of the home page."""
        return f"http://127.0.0.1:{self.sync_port}/"

    @property
    def processes(self) -> str:
        """Say what serves the site."""
        return f"{self._workers} WSGI workers" + (" and an ASGI server" if len(self._children) > 1 else "")

    def is_running(self) -> bool:
        """Tell whether all servers run."""
        return all(child.is_running() for child in self._children)

    def stop(self) -> None:
        """End the servers; harmless when they have ended."""
        for child in self._children:
            child.stop()
        for listener in self._sockets:
            listener.close()

    def _serve(self, command: list[str], name: str) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        self._sockets.append(listener)
        arguments = [word.replace("{}", str(listener.fileno())) for word in command]
        log = self._directory / f"{name}.log"
        self._children.append(Child(arguments, environment=self._environment, log=log, passed=[listener.fileno()]))
        return int(listener.getsockname()[1])


def _wait_until_it_answers(port: int, child: Child) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT)
        try:
            connection.request("GET", "/")
            status = str(connection.getresponse().status)
        except (OSError, http.client.HTTPException) as error:
            status = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        if status == "200":
            return
        if not child.is_running() or time.monotonic() > deadline:
            raise ProcessFailed(f"the site does not answer ({status}):\n{child.log_tail()}")
        time.sleep(POLL_INTERVAL)
