"""A lock that goes with its process: the system releases it even if the process is killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from nnspec.compiler.runtime.checkpoint import written
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import RunLocked

_ABOUT = 64  # bytes of the number of the process that holds it; Windows locks the byte behind


class Lock:
    """A lock on a file, which also says which process holds it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> None:
        """Take the lock; RunError if another process has it."""
        with written(self.path):
            file = self.path.open("a+b")
        if not _try_lock(file):
            file.seek(0)
            about = file.read(_ABOUT).decode(errors="replace").strip()
            file.close()
            holder = f" (number {about})" if about.isdigit() else ""
            raise RunError(RunLocked(None, path=str(self.path.parent), holder=holder))
        self._file = file
        with written(self.path):
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
            file.flush()

    def release(self) -> None:
        """Give the lock back. The file stays: another process may be waiting at it."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(_ABOUT)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import errno
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as failure:
            # Some network file systems have no locks; there is nothing better to do than go on.
            return failure.errno in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
        return True
