"""Gunicorn's settings in the demo."""

import ctypes
import os
import signal
import sys
from typing import Any

worker_class = "gthread"
preload_app = True
# Longer than any pause between two requests of a client: no connection is closed under a request.
keepalive = 75
graceful_timeout = 3
accesslog = None
errorlog = "-"
loglevel = "warning"
# Newer Gunicorns open a control socket in the home directory unless told not to; older ones ignore this.
control_socket_disable = True

_PR_SET_PDEATHSIG = 1


def post_fork(server: Any, worker: Any) -> None:
    """Tie a worker's life to the master's."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != server.pid:
        os._exit(1)
