"""Files are replaced whole or not at all, and nothing but a regular file is: neither by `save`, nor read by `load`."""

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import run_python

import fastlstm
from fastlstm import LSTM, files


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def a_device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # /dev/null, in a place where it may be lost
        path.read_bytes()
    except PermissionError:
        pytest.skip("only root makes a device")


def _what_it_is(path: Path) -> tuple[int, ...]:
    found = os.lstat(path)
    return found.st_mode, found.st_ino, found.st_rdev


@pytest.mark.parametrize("linked", [False, True], ids=["itself", "linked"])
@pytest.mark.parametrize("make", [a_fifo, a_folder, a_socket, a_device], ids=lambda make: make.__name__)
def test_what_is_no_file_is_neither_replaced_nor_read(make, linked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = Path("thing")
    make(path)
    if linked:
        Path("link").symlink_to(path)
        path = Path("link")
    before, names = _what_it_is(path), sorted(os.listdir())
    for use in (lambda: fastlstm.save(LSTM(3, 4), path), lambda: fastlstm.load(path)):
        with pytest.raises(OSError, match=str(path)) as refusal:  # a FIFO would hang
            use()
        assert isinstance(refusal.value, IsADirectoryError) == (make is a_folder)
        assert refusal.value.errno == (errno.EISDIR if make is a_folder else errno.EINVAL)
        assert refusal.value.filename == str(path)
    assert _what_it_is(path) == before
    assert sorted(os.listdir()) == names


def test_the_devices_that_there_are():
    for path in ("/dev/null", "/dev/zero", "/dev/full"):
        before = os.stat(path)
        for use in (lambda: fastlstm.save(LSTM(3, 4), path), lambda: fastlstm.load(path)):  # noqa: B023
            with pytest.raises(OSError, match="not a regular file"):
                use()
        assert (os.stat(path).st_mode, os.stat(path).st_rdev) == (before.st_mode, before.st_rdev)


def test_a_file_of_the_system_is_no_checkpoint():
    for path in ("/proc/self/status", "/proc/self/mem", "/sys/kernel/mm/transparent_hugepage/enabled"):
        if os.path.exists(path):
            with pytest.raises((ValueError, OSError)):
                fastlstm.load(path)


NAMES = {
    "plain": "a.safetensors",
    "a surrogate": os.fsdecode(b"\xff.safetensors"),
    "letters": "größe λ 层.safetensors",
    "255 bytes": "x" * 255,
    "a line": "a\nb",
    "markup": "[red]{0}%s",
}


@pytest.mark.parametrize("of", [str, Path, os.fsencode], ids=["str", "Path", "bytes"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_loads(name, of, tmp_path):
    path = of(os.path.join(tmp_path, NAMES[name]))
    for hidden_size in (4, 5):
        fastlstm.save(LSTM(3, hidden_size), path)
        assert fastlstm.load(path).hidden_size == hidden_size
    assert os.listdir(tmp_path) == [NAMES[name]]


def test_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for use in (lambda path: fastlstm.save(LSTM(3, 4), path), fastlstm.load):
        for path in (3, None):
            with pytest.raises(TypeError, match="expected str, bytes or os"):
                use(path)
        with pytest.raises(ValueError, match="null"):
            use("a\0b")
    with pytest.raises(IsADirectoryError):
        fastlstm.save(LSTM(3, 4), "")
    Path("loop").symlink_to("loop")
    for use in (lambda path: fastlstm.save(LSTM(3, 4), path), fastlstm.load):
        with pytest.raises(OSError, match="loop") as refusal:
            use("loop")
        assert refusal.value.errno == errno.ELOOP
    fastlstm.save(LSTM(3, 4), "relative")
    Path("ahead").symlink_to("new")
    fastlstm.save(LSTM(3, 5), "ahead")
    assert sorted(os.listdir()) == ["ahead", "loop", "new", "relative"]
    assert fastlstm.load("new").hidden_size == 5


def test_modes(tmp_path):
    umask = os.umask(0o027)
    try:
        fastlstm.save(LSTM(3, 4), tmp_path / "new")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    for mode in (0o444, 0o600, 0o666, 0o755):
        (tmp_path / "new").chmod(mode)
        fastlstm.save(LSTM(3, 4), tmp_path / "new")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


def assert_intact(path: Path, before: bytes) -> None:
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A process that may write files of so many bytes: EFBIG where a disk says ENOSPC."""
    path = tmp_path / "lstm.safetensors"
    fastlstm.save(LSTM(3, 4), path)
    before = path.read_bytes()
    said = run_python(
        "import errno, os, resource, fastlstm\n"
        "for size in (30_000, 4096, 100, 0):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        f"    try: fastlstm.save(fastlstm.LSTM(3, 60), {str(path)!r})\n"
        "    except OSError as error: said = (errno.errorcode[error.errno], error.filename)\n"
        "    os.write(1, f'{said}\\n'.encode())\n"  # the limit holds for what is printed into a file, too
    )
    assert said.splitlines() == [str(("EFBIG", str(path)))] * 4
    assert_intact(path, before)


def test_a_disk_that_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root mounts a disk")
    try:
        path = disk / "lstm.safetensors"
        for first in (True, False):
            with pytest.raises(OSError, match="No space left") as refusal:
                fastlstm.save(LSTM(3, 200), path)
            assert (refusal.value.errno, refusal.value.filename) == (errno.ENOSPC, str(path))
            if first:
                assert not os.listdir(disk)
                fastlstm.save(LSTM(3, 4), path)
                before = path.read_bytes()
            else:
                assert_intact(path, before)
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("call", ["os.fsync", "os.fchmod", "os.replace"])
def test_a_save_that_ends_midway_leaves_the_old_file(call, error, tmp_path, monkeypatch):
    path = tmp_path / "lstm.safetensors"
    fastlstm.save(LSTM(3, 4), path)
    before = path.read_bytes()

    def fails(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(call, fails)
        with pytest.raises(type(error)):
            fastlstm.save(LSTM(3, 5), path)
    assert_intact(path, before)


def test_it_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    done = []
    sync, put = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda file: done.append(os.fstat(file).st_size) or sync(file))
    monkeypatch.setattr("os.replace", lambda a, b: done.append((os.path.dirname(a), b)) or put(a, b))
    fastlstm.save(LSTM(3, 4), tmp_path / "a")
    assert done == [(tmp_path / "a").stat().st_size, (str(tmp_path), str(tmp_path / "a"))]


def test_only_what_nobody_writes_is_a_stray(tmp_path):
    """Of a killed process: removed. Of one that is writing, and what only has such a name: left."""
    stray, alive, fifo, link = (tmp_path / f".fastlstm-{k:016x}.tmp" for k in range(4))
    for path in (stray, alive):
        path.write_bytes(b"half")
    os.mkfifo(fifo)
    link.symlink_to(alive)
    other = tmp_path / ".fastlstm-notes"
    other.touch()
    with alive.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        files.replace(str(tmp_path / "a"), b"whole")
        assert not stray.exists()
        assert {alive, fifo, link, other} < set(tmp_path.iterdir())
    files.replace(str(tmp_path / "b"), b"whole")
    assert not alive.exists()


def test_a_name_that_was_taken_for_a_stray_is_given_up(tmp_path, monkeypatch):
    """Another process removes the file between its making and its lock."""
    lock, seen = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not seen:
            seen.extend(tmp_path.glob(".fastlstm-*"))
            seen[0].unlink()
        lock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", late)
    files.replace(str(tmp_path / "a"), b"whole")
    assert len(seen) == 1
    assert_intact(tmp_path / "a", b"whole")


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    fastlstm.save(LSTM(3, 4), tmp_path / "a")
    assert fastlstm.load(tmp_path / "a").hidden_size == 4
    assert os.listdir(tmp_path) == ["a"]


AS_ON_WINDOWS = """
import os, sys, time
import torch

sys.modules["fcntl"] = None  # its import fails
for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "fchmod", "register_at_fork"):
    delattr(os, name)


def is_open(path):
    found = [os.path.realpath(f"/proc/self/fd/{descriptor}") for descriptor in os.listdir("/proc/self/fd")]
    return os.path.realpath(path) in found


def refusing(function):
    def of_closed_files_alone(*paths, **others):
        if any(map(is_open, paths)):
            raise PermissionError(13, "it is open", paths[0])
        return function(*paths, **others)

    return of_closed_files_alone


os.replace, os.unlink = refusing(os.replace), refusing(os.unlink)
"""


def test_where_there_are_no_locks_and_no_open_file_is_moved_or_removed(tmp_path):
    """As on Windows."""
    said = run_python(
        AS_ON_WINDOWS + f"os.chdir({str(tmp_path)!r})\n"
        "import fastlstm\n"
        "from fastlstm import files\n"
        "young, old, written = (f'.fastlstm-{k:016x}.tmp' for k in range(3))\n"
        "for name in (young, old, written):\n"
        "    open(name, 'wb').close()\n"
        "for name in (old, written):\n"
        "    os.utime(name, (0, time.time() - 100))\n"
        "with open(written, 'wb', opener=lambda name, flags: os.open(name, os.O_RDONLY)):\n"
        "    for hidden_size in (4, 5):\n"
        "        fastlstm.save(fastlstm.LSTM(3, hidden_size), 'a')\n"
        "        assert fastlstm.load('a').hidden_size == hidden_size\n"
        "assert sorted(os.listdir()) == [young, written, 'a']\n"
        "with files.held('a'):\n"
        "    try: fastlstm.save(fastlstm.LSTM(3, 6), 'a')\n"
        "    except PermissionError as error: print(error.filename)\n"
        "assert sorted(os.listdir()) == [young, 'a']\n"
        "print(fastlstm.load('a').hidden_size)"
    )
    assert said.split() == ["a", "5"]


def test_many_save_at_once_while_another_reads(tmp_path):
    """Processes and threads: none fails, and what is read is always one whole layer."""
    path = tmp_path / "lstm.safetensors"
    script = (
        "import sys, torch, fastlstm\n"
        "layer = fastlstm.LSTM(3, int(sys.argv[1]))\n"
        "for p in layer.parameters(): torch.nn.init.constant_(p, float(sys.argv[1]))\n"
        f"for _ in range(40): fastlstm.save(layer, {str(path)!r})\n"
    )
    fastlstm.save(_constant(4), path)
    writers = [subprocess.Popen([sys.executable, "-c", script, str(size)]) for size in (5, 90, 300)]
    failed = []

    def save() -> None:
        try:
            for _ in range(40):
                fastlstm.save(_constant(7), path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=save) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        found = fastlstm.load(path)
        assert all((parameter == found.hidden_size).all() for parameter in found.parameters())
        seen.add(found.hidden_size)
    for thread in threads:
        thread.join()
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert not failed
    assert len(seen) > 1
    assert os.listdir(tmp_path) == [path.name]


def _constant(size: int) -> LSTM:
    layer = LSTM(3, size)
    for parameter in layer.parameters():
        parameter.data.fill_(size)
    return layer


def test_the_checkpoints_module_needs_no_torch(tmp_path):
    fastlstm.save(LSTM(3, 4), tmp_path / "a")
    assert (
        run_python(
            "import sys; sys.modules['torch'] = None\n"
            "import fastlstm.checkpoint as checkpoint\n"
            f"print(checkpoint.read({str(tmp_path / 'a')!r}, 'np')[0])"
        )
        == "LSTM\n"
    )
