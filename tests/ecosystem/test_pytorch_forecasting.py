"""pytorch-forecasting: forecasting of time series, with subclasses of nn.LSTM and nn.GRU that `enable` reaches."""

import pandas as pd
import pytest
import torch
from pytorch_forecasting import RecurrentNetwork, TimeSeriesDataSet

from tests.ecosystem.three_ways import Results, gradients, hold


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_a_step_of_training(cell):
    steps = torch.arange(200)
    frame = pd.DataFrame({"step": steps, "series": "a", "value": torch.sin(steps / 7).numpy()})
    series = TimeSeriesDataSet(
        frame, time_idx="step", target="value", group_ids=["series"], max_encoder_length=60, max_prediction_length=20,
        time_varying_unknown_reals=["value"],
    )  # fmt: skip
    network = RecurrentNetwork.from_dataset(series, cell_type=cell, hidden_size=64, rnn_layers=2, dropout=0.0)
    x, _ = next(iter(series.to_dataloader(train=False, batch_size=32)))

    def run() -> Results:
        prediction = network(x)["prediction"]
        return {"prediction": prediction.detach(), **gradients(prediction.square().mean(), network)}

    hold("pytorch-forecasting", f"{cell}, forward and backward, 32 windows", network, run, converts=False)
