"""Regular files, replaced whole or not at all, and read as what was found at their path.

A file is written under a name of its own beside its path, and takes the path's place when all of it is on the disk. A lock
tells a file that is being written from one that a killed process left: the system frees it with the process.

Windows neither moves nor removes a file that a process has open: a file that is being read can't be replaced there.
"""

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

try:
    import fcntl

    _IS_POSIX = True
except ImportError:
    _IS_POSIX = False  # no such locks, nor modes of files

KEY = "fastlstm"  # of what a checkpoint says in its metadata
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # to open a FIFO
_ABANDONED = 60  # seconds that nobody has written it, where there are no locks
_PREFIX, _SUFFIX = ".fastlstm-", ".tmp"  # with 16 digits between them: a name of 255 bytes has room for no more


def replace(path: str, content: bytes) -> None:
    """Puts a file with that content at `path`: whoever looks finds what was there before or all of it, whatever happens.

    A link stays one, and a file's mode stays what it was. What killed processes left in the folder is removed. OSError,
    and what was at `path` as it was: that is neither a regular file nor a link to one (IsADirectoryError: a folder), there
    is no such folder (FileNotFoundError), or it can't be written, as on a full disk, or on Windows while somebody reads it.
    """
    before = None
    with suppress(FileNotFoundError):
        before = os.stat(path)
        _check_regular(path, before)
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    _remove_strays(folder)
    try:
        # The system gives a new file the mode that a file has here; the other is opened to nobody until it has its mode.
        temporary, descriptor = _temporary(folder, 0o666 if before is None else 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                if before is not None and _IS_POSIX:
                    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
                os.fsync(descriptor)
                if _IS_POSIX:  # while it is locked
                    os.replace(temporary, real)
            if not _IS_POSIX:
                os.replace(temporary, real)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error  # the caller knows no other name


@contextmanager
def held(path: str) -> Iterator[str]:
    """A name for the regular file that is at `path` now, good within the block whoever replaces it.

    OSError: there is none (FileNotFoundError), or something else, such as a folder (IsADirectoryError) or a FIFO.
    """
    _check_regular(path, os.stat(path))  # before it is opened: a device may do something then
    descriptor = os.open(path, os.O_RDONLY | _AT_ONCE)
    try:
        _check_regular(path, os.fstat(descriptor))
        name = f"/dev/fd/{descriptor}"
        yield name if os.path.exists(name) else path  # Windows and a bare chroot have no /dev
    finally:
        os.close(descriptor)


def _check_regular(path: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)


def _temporary(folder: str, mode: int) -> tuple[str, int]:
    """The path of a new file in the folder, and its descriptor, locked where there are locks."""
    while True:
        path = os.path.join(folder, f"{_PREFIX}{os.urandom(8).hex()}{_SUFFIX}")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        if not _IS_POSIX:
            return path, descriptor
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = not os.path.lexists(path)
        except BlockingIOError:
            taken = True
        except OSError:  # a file system without locks, where nothing is taken for a stray
            taken = False
        if not taken:
            return path, descriptor
        os.close(descriptor)  # another process saw it before it was locked, and takes it for a stray


def _remove_strays(folder: str) -> None:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            ours = entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX)
            if ours and entry.is_file(follow_symlinks=False):
                _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    with suppress(OSError):  # gone, another user's, locked, or open on Windows
        if not _IS_POSIX:
            if time.time() - os.stat(path).st_mtime > _ABANDONED:
                os.unlink(path)
            return
        descriptor = os.open(path, os.O_RDONLY | _AT_ONCE | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(descriptor)
