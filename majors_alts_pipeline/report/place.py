"""Putting a finished directory in the place of an older one, whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def put_in_place(new: Path, out: Path) -> None:
    """Make `new` the directory `out`, atomically where the system can; the old one ends up at `new`.

    Raises:
        OSError: the system refuses; `out` is as it was.
    """
    if not out.exists():
        new.rename(out)
        return
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is not None:
        done = exchange(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(out), _RENAME_EXCHANGE)
        if done == 0:
            return
        code = ctypes.get_errno()
        if code not in {errno.ENOSYS, errno.EINVAL}:
            raise OSError(code, os.strerror(code), str(out))
    # The system cannot exchange two directories: for an instant there is no report, never half a one.
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent)) / "old"
    out.rename(aside)
    new.rename(out)
    shutil.rmtree(aside.parent)
