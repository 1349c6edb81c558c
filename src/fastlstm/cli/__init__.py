"""The command line, `fastlstm`: one file a command. torch and matplotlib are imported only where a command runs."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import fastlstm
from fastlstm import _engine
from fastlstm.cli import bench, check, conditions, demo, info, run, shapes
from fastlstm.cli.output import failures_in_a_line


class _Commands(TyperGroup):
    # Inside of typer, which ends in silence where a pipe is broken.
    def make_context(self, *arguments: Any, **more: Any) -> Any:  # it prints --help and --version
        with failures_in_a_line():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with failures_in_a_line():
            return super().invoke(ctx)


app = typer.Typer(
    help="torch.nn.LSTM on an engine of its own: the same layer, the same numbers, faster on a CPU.",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes break a message, and a path in it, into lines of 80
)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"fastlstm {fastlstm.__version__}")
        raise typer.Exit


@app.callback()
def _before_every_command(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    try:
        _engine.isa()
    except ValueError as error:  # FASTLSTM_ISA names what is not here
        typer.echo(error, err=True)
        raise typer.Exit(1) from None


for command in (info.info, check.check, shapes.shapes, run.run, demo.demo, bench.bench, conditions.conditions):
    app.command()(command)
