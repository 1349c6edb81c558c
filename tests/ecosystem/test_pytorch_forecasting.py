"""pytorch-forecasting: forecasting of time series, with a subclass of nn.LSTM that `enable` reaches."""

import pandas as pd
import torch
from pytorch_forecasting import RecurrentNetwork, TimeSeriesDataSet

from tests.ecosystem.three_ways import Results, gradients, hold


def test_a_step_of_training():
    steps = torch.arange(200)
    frame = pd.DataFrame({"step": steps, "series": "a", "value": torch.sin(steps / 7).numpy()})
    series = TimeSeriesDataSet(
        frame, time_idx="step", target="value", group_ids=["series"], max_encoder_length=60, max_prediction_length=20,
        time_varying_unknown_reals=["value"],
    )  # fmt: skip
    network = RecurrentNetwork.from_dataset(series, cell_type="LSTM", hidden_size=64, rnn_layers=2, dropout=0.0)
    x, _ = next(iter(series.to_dataloader(train=False, batch_size=32)))

    def run() -> Results:
        prediction = network(x)["prediction"]
        return {"prediction": prediction.detach(), **gradients(prediction.square().mean(), network)}

    hold("pytorch-forecasting", "forward and backward, 32 windows", network, run, converts=False)
