"""Become another program that ends when the process that started this one ends.

Run as a script, never imported: ``python -I -S tether.py PARENT SIGNAL UID GID PROGRAM [ARGUMENT ...]``.
It asks Linux to send SIGNAL when its parent dies (``PR_SET_PDEATHSIG``), drops to UID and GID unless they
are ``-``, and replaces itself by PROGRAM. The request survives ``execve``, so PROGRAM dies with the parent
however the parent ends, SIGKILL included.

A script of its own rather than ``preexec_fn``: no Python code runs between fork and exec of a process that
has threads. The order of the steps matters: a change of user clears the request, so it comes first; a parent
that died before the request was in force is noticed by comparing ``getppid``. Where ``prctl`` is missing
(macOS) the program is only ended by its owner's own clean-up.

Exit codes: 125 when the parent has gone, 126 when PROGRAM may not be read or run, 127 when it is missing.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Drop privileges, tie this process to its parent and run the program; return only on failure."""
    parent, death_signal, uid, gid, program, *rest = arguments
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        return 125
    try:
        os.execv(program, [program, *rest])
    except FileNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return 127
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
