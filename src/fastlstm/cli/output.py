"""What every command prints with, and how it ends where that can't go on: with a line that says why, not a traceback."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.table import Table

_OF_OUTPUT = {errno.EPIPE, errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EBADF}
UNBOUNDED = 10_000  # columns: wider than any table


class _Output(Console):
    def on_broken_pipe(self) -> None:
        raise  # the BrokenPipeError that is being handled: rich would end in silence


def output() -> Console:
    """stdout: as wide as the terminal or COLUMNS say. A pipe or a file has no width, and nothing is wrapped there."""
    return _Output(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else UNBOUNDED)


def progress() -> Console:
    """stderr, for what is read while a command runs: stdout may go to a file."""
    return Console(stderr=True)


def show(console: Console, *tables: Table) -> None:
    """Prints tables whole: a cell that the terminal has no room for goes on in its next line."""
    for table in tables:
        for column in table.columns:
            column.no_wrap, column.overflow = False, "fold"
        console.print(table, crop=False)


@contextmanager
def failures_in_a_line() -> Iterator[None]:
    """Exit with status 1, and one line, where the system refuses something: a file, or the output itself."""
    try:
        try:
            if sys.stdout is None:  # it was closed before Python began
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # or it would fail at the end of the process, where nobody can say so
    except OSError as error:
        of_output = error.filename is None and error.errno in _OF_OUTPUT
        what = "output" if of_output else error.filename
        typer.echo(f"fastlstm: {what}: {error.strerror}" if what and error.strerror else f"fastlstm: {error}", err=True)
        if of_output:  # Python would try once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
