"""Call `manage.py distcache` from a test, on nodes it chooses, real ones or impostors."""

import io
import json
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.core.management import CommandError, call_command
from django.test import override_settings

# Long enough for a busy machine to answer, short enough to wait for once.
PATIENT = {"DEADLINE": 2.0, "SOCKET_CONNECT_TIMEOUT": 2.0}


def entry(location: object, **params: Any) -> dict[str, Any]:
    options = {**PATIENT, **params.pop("OPTIONS", {})}
    return {"BACKEND": "distcache_django.DistributedCache", "LOCATION": location, "OPTIONS": options, **params}


@contextmanager
def site(location: object, **params: Any) -> Iterator[None]:
    with override_settings(CACHES={"default": entry(location, **params)}):
        yield


def call(*words: str) -> tuple[int, str]:
    """Return the code and the output of a sub-command."""
    output = io.StringIO()
    try:
        call_command("distcache", *words, stdout=output)
    except CommandError as error:
        return error.returncode, output.getvalue()
    return 0, output.getvalue()


def call_json(*words: str) -> tuple[int, dict[str, Any]]:
    code, text = call(*words, "--json")
    loaded: dict[str, Any] = json.loads(text)
    return code, loaded


def finding_ids(report: Mapping[str, Any]) -> dict[str, str]:
    return {f["id"].removeprefix("distcache."): f["level"] for f in report["findings"] if f["id"]}


class Impostor(socketserver.ThreadingTCPServer):
    """A server that answers each command as it is told to; what it is not told it calls unknown."""

    daemon_threads = True

    def __init__(self, answers: Mapping[bytes, bytes]) -> None:
        self.answers = answers
        super().__init__(("127.0.0.1", 0), _Answering)


class _Answering(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server: Any = self.server
        while data := self.request.recv(4096):
            word = data.split(b"\r\n")[2].upper()
            self.request.sendall(server.answers.get(word, b"-ERR unknown command\r\n"))


@contextmanager
def impostor(**answers: bytes) -> Iterator[str]:
    with Impostor({word.encode(): answer for word, answer in answers.items()}) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"redis://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())
