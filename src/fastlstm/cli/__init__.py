"""The command line, `fastlstm`: one file a command. torch and matplotlib are imported only where a command runs."""

import typer

from fastlstm.cli import bench, check, conditions, demo, info, shapes

app = typer.Typer(
    help="torch.nn.LSTM on an engine of its own: the same layer, the same numbers, sooner on a CPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (info.info, check.check, shapes.shapes, demo.demo, bench.bench, conditions.conditions):
    app.command()(command)


def main() -> None:
    """The entry point of the `fastlstm` script."""
    app()
