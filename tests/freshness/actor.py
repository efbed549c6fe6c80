"""A process of a site that does what the test tells it, step by step: ``python -m tests.freshness.actor FD``.

What is started so is the *nursery*: it imports Django and the package once and forks an actor for every socket it
is sent, so that a fresh process costs milliseconds. It ends with its parent, and its actors end with it, stopped
ones too. An actor reads one JSON object a line:

``{"plan": {...}}``                                    first: the site it is a process of
``{"do": name, "with": {...}, "hold": [point, ...]}``  answered by ``{"at": point}`` for each point that is reached,
                                                       and ``{"value": ...}`` or ``{"error": [...]}`` at the end
``{"open": point}``                                    lets it go on
"""

import importlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Be killed when the parent ends, also while stopped."""
    import ctypes

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(125)


class Actor:
    """Carry out commands in the main thread; a second thread listens, so that points can be opened meanwhile."""

    def __init__(self, channel: socket.socket) -> None:
        self._lines = channel.makefile("r", encoding="utf-8")
        self._out = channel.makefile("w", encoding="utf-8")
        self._out_lock = threading.Lock()  # guards _out: points are reached in any thread
        self._commands: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def run(self) -> None:
        """Set the site up and serve until the test closes the channel."""
        from tests.freshness.gates import Gates
        from tests.freshness.site import configure

        self.gates = Gates(self._tell)
        self.gates.install()
        self._subject = configure(json.loads(self._lines.readline())["plan"], self.gates)
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            self._tell(self._answer(self._commands.get()))

    def _listen(self) -> None:
        for line in self._lines:
            message = json.loads(line)
            if "open" in message:
                self.gates.open(message["open"])
            else:
                self._commands.put(message)
        os._exit(0)

    def _answer(self, command: dict[str, Any]) -> dict[str, object]:
        from tests.freshness.ops import operation

        self.gates.arm(command["hold"])
        loads, began = self.gates.count("load"), time.monotonic()
        answer: dict[str, object] = {}
        try:
            answer["value"] = operation(command["do"], self._subject)(**command["with"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is told
            answer["error"] = [cls.__name__ for cls in type(error).__mro__]
            answer["text"] = traceback.format_exc()
        answer["seconds"] = time.monotonic() - began
        answer["loads"] = self.gates.count("load") - loads
        return answer

    def _tell(self, message: dict[str, object]) -> None:
        with self._out_lock:
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()


def nurse(control: socket.socket) -> None:
    """Fork an actor for every socket that arrives; answer its process id."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for actors: the kernel reaps them
    nursery = os.getpid()
    while True:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            return
        pid = os.fork()
        if pid == 0:
            die_with_parent(nursery)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            control.close()
            Actor(socket.socket(fileno=descriptors[0])).run()
        os.close(descriptors[0])
        control.sendall(b"%d\n" % pid)


#: What costs an actor a third of a second to import, and needs no settings for it.
PRELOADED = (
    "django.contrib.contenttypes.apps",
    "django.core.mail",
    "django.core.serializers.json",
    "django.db.backends.postgresql.base",
    "django.template.defaulttags",
    "django.views.generic",
    "distcache_django.backends.cache",
    "distcache_django.orm.install",
    "distcache_django.orm.writes",
    "tests.freshness.site",
)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    for name in PRELOADED:
        importlib.import_module(name)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        nurse(channel)
