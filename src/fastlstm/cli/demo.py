"""`fastlstm demo`: a forecaster trained on nn.LSTM and on fastlstm.LSTM, on real data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from fastlstm.cli.needs import needs, needs_file
from fastlstm.cli.output import output as stdout
from fastlstm.cli.output import show

if TYPE_CHECKING:
    from fastlstm.demo.outcome import Outcome


def demo(
    output: Annotated[Path, typer.Option(help="Folder for picture, checkpoint and report.")] = Path("demo-output"),
) -> None:
    """Train nn.LSTM and fastlstm.LSTM in turn. They forecast CO2 a year ahead; exit with status 1 if a claim fails."""
    needs("torch", "matplotlib")
    import torch

    import fastlstm
    from fastlstm.demo import outcome as outcomes
    from fastlstm.demo import picture, report, series, training

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from None
    for name in report.FILES:
        needs_file(output / name, "--output")
    console, settings = stdout(), training.Settings()
    torch.set_num_threads(settings.threads)
    co2 = series.load()
    scale, origins = series.scale_of(co2), series.training_origins(co2)
    x, y = series.inputs(co2, scale, origins), series.targets(co2, scale, origins)
    engine = fastlstm.engine(fastlstm.LSTM(1, 1), torch.zeros(1, 1, 1)).name
    console.print(
        f"{len(origins)} windows of {x.shape[0]} weeks, {settings.num_layers} layers of {settings.hidden_size}; "
        f"nn.LSTM and fastlstm.LSTM ({engine}) in turn, {settings.threads} thread each",
        highlight=False,
    )
    with Progress(console=console) as progress:
        names = {"nn": "nn.LSTM", "ours": "fastlstm.LSTM"}
        tasks = {key: progress.add_task(name, total=settings.epochs) for key, name in names.items()}
        for pair in training.train(x, y, settings, lambda key: progress.advance(tasks[key])):
            losses = f"{pair.nn.epoch_losses[-1]:.6f} and {pair.ours.epoch_losses[-1]:.6f}"
            seconds = f"{pair.nn.seconds[-1]:.2f} s and {pair.ours.seconds[-1]:.2f} s"
            console.print(f"epoch {len(pair.nn.seconds):>2}: loss {losses}, {seconds}", highlight=False)
    outcome = outcomes.evaluate(co2, scale, pair)
    report.save_checkpoint(outcome, output)
    picture.draw(outcome, output / report.PICTURE)
    report.write_report(outcome, settings, output / report.REPORT)

    table = Table("forecast of the held-out years", "RMSE, ppm", "MAE, ppm")
    for name, rmse, mae in report.scores(outcome):
        table.add_row(name, f"{rmse:.3f}", f"{mae:.3f}")
    show(console, table)
    for line in summary(outcome):
        console.print(line, highlight=False)
    console.print(f"picture, report and checkpoint: {output}/", highlight=False, markup=False)
    for failure in outcome.failures():
        console.print(f"[red]does not hold[/red]: {failure}", highlight=False)
    raise typer.Exit(1 if outcome.failures() else 0)


def summary(outcome: "Outcome") -> list[str]:
    """The result in three lines: how good the forecast is, how equal the training was, how much faster it was."""
    pair = outcome.pair
    return [
        f"RMSE {outcome.gain(outcome.naive):.0%} below the seasonal naive forecast, "
        f"{outcome.gain(outcome.drift):.0%} below the one with drift",
        f"losses of nn.LSTM and fastlstm.LSTM differ by {pair.first_epoch_difference():.1e} (relative) at most "
        f"over the steps of the first epoch, {pair.epoch_difference():.1e} over all epochs",
        f"training took {sum(pair.nn.seconds):.1f} s with nn.LSTM, {sum(pair.ours.seconds):.1f} s with fastlstm.LSTM; "
        f"ratio of the median epochs: {pair.ratio():.2f}",
    ]
