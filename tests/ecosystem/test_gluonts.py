"""gluonts: DeepAR, probabilistic forecasting, two layers of 40 as by default, random weights."""

import torch
from gluonts.torch.model.deepar.module import DeepARModel

from tests.ecosystem.three_ways import Results, gradients, hold

HISTORY, HORIZON = 168, 24  # a week of hours, and the day after it


def model_and_batch(rows: int) -> tuple[DeepARModel, dict[str, torch.Tensor], torch.Tensor]:
    model = DeepARModel("h", HISTORY, HORIZON, num_feat_dynamic_real=5, num_parallel_samples=20)
    length = model.past_length
    hours = torch.arange(length + HORIZON) + 5 * torch.arange(rows)[:, None]
    series = 10 + 5 * torch.sin(2 * torch.pi * hours / 24) + torch.randn(hours.shape)
    features = torch.randn(rows, length + HORIZON, 5)
    past = {
        "feat_static_cat": torch.zeros(rows, 1, dtype=torch.long),
        "feat_static_real": torch.zeros(rows, 1),
        "past_time_feat": features[:, :length],
        "past_target": series[:, :length],
        "past_observed_values": torch.ones(rows, length),
        "future_time_feat": features[:, length:],
    }
    return model, past, series[:, length:]


def test_a_step_of_training():
    model, past, future = model_and_batch(32)

    def run() -> Results:
        torch.manual_seed(0)  # of the dropout between the layers
        losses = model.loss(**past, future_target=future, future_observed_values=torch.ones_like(future))
        return {"losses": losses.detach(), **gradients(losses.mean(), model)}

    hold("gluonts", "DeepAR, forward and backward, 32 weeks of hours", model, run)


def test_sampling_futures():
    model, past, _ = model_and_batch(4)
    model.eval()

    @torch.no_grad()
    def run() -> Results:
        torch.manual_seed(0)
        return {"samples": model(**past)}

    hold("gluonts", "DeepAR, 24 hours, 20 samples for each of 4 series", model, run)
