"""darts: forecasting of time series by RNNModel, step after step, and by BlockRNNModel, all at once. Lightning trains both."""

from pathlib import Path

import numpy as np
import pytest
import torch
from darts import TimeSeries
from darts.models import BlockRNNModel, RNNModel
from darts.models.forecasting.torch_forecasting_model import TorchForecastingModel
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

import fastlstm
from tests.ecosystem.three_ways import Results, hold

HISTORY, HORIZON = 72, 24  # hours
HOURS = np.arange(260, dtype=np.float32)
SERIES = TimeSeries.from_values(np.sin(2 * np.pi * HOURS / 24, dtype=np.float32) + 0.3 * np.sin(HOURS / 5))
SILENT = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Losses(Callback):
    def __init__(self) -> None:
        self.found: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: dict, *_: object) -> None:
        self.found.append(outputs["loss"].detach())


def train(model: TorchForecastingModel) -> Tensor:
    """The losses of an epoch."""
    losses = Losses()
    trainer = Trainer(max_epochs=1, enable_checkpointing=False, callbacks=[losses], **SILENT)
    model.fit(SERIES, trainer=trainer, dataloader_kwargs={"shuffle": False})
    return torch.stack(losses.found)


def forecast(model: TorchForecastingModel) -> Tensor:
    return torch.from_numpy(model.predict(2 * HORIZON, show_warnings=False).values())


def trained(kind: type[TorchForecastingModel], cell: str, folder: Path) -> TorchForecastingModel:
    length = {"training_length": HISTORY + HORIZON} if kind is RNNModel else {"output_chunk_length": HORIZON}
    model = kind(
        model=cell, input_chunk_length=HISTORY, hidden_dim=64, n_rnn_layers=2, batch_size=64, random_state=0,
        work_dir=str(folder), pl_trainer_kwargs=SILENT, **length,
    )  # fmt: skip
    train(model)  # before, it holds no module
    return model


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
@pytest.mark.parametrize("kind", [RNNModel, BlockRNNModel])
def test_an_epoch_of_training(kind, cell, tmp_path):
    model = trained(kind, cell, tmp_path)
    state = {name: t.clone() for name, t in model.model.state_dict().items()}

    def run() -> Results:
        model.model.load_state_dict(state)
        return {"losses": train(model), "forecast": forecast(model)}

    hold("darts", f"{kind.__name__} with {cell}, an epoch of training and a forecast", model.model, run)


def test_a_forecast_step_after_step(tmp_path):
    model = trained(RNNModel, "LSTM", tmp_path)
    hold("darts", f"RNNModel, a forecast of {2 * HORIZON} hours", model.model, lambda: {"forecast": forecast(model)})


def test_a_converted_model_is_saved_and_loaded(tmp_path):
    """As darts' own: what it makes on loading is an nn.LSTM again."""
    model = trained(RNNModel, "LSTM", tmp_path)
    assert fastlstm.convert(model.model).changed == ["rnn"]
    model.save(str(tmp_path / "model.pt"))
    loaded = RNNModel.load(str(tmp_path / "model.pt"), pl_trainer_kwargs=SILENT)
    assert type(loaded.model.rnn) is nn.LSTM
    torch.testing.assert_close(forecast(loaded), forecast(model))
