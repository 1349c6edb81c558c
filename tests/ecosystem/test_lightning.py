"""Lightning: a LightningModule that holds a layer, fitted by its Trainer, in float32 and under autocast to bfloat16."""

from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import fastlstm
from tests.ecosystem.three_ways import counting
from tests.tolerances import AUTOCAST_LOSS, TRAINED_LOSS_FLOAT32

TOLERANCE = {"32-true": TRAINED_LOSS_FLOAT32, "bf16-mixed": {"rtol": AUTOCAST_LOSS, "atol": 0}}
KINDS = {"LSTM": (nn.LSTM, fastlstm.LSTM), "GRU": (nn.GRU, fastlstm.GRU)}
STEPS = 8


class Forecaster(LightningModule):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.layer = kind(3, 32, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 1)
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.layer(x)
        return self.head(output[:, -1]).squeeze(-1)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self(x).float(), y)
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


def data() -> DataLoader:
    x = torch.randn(8 * STEPS, 20, 3, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.mean((1, 2))), batch_size=8)


def fitted(
    kind: type[nn.Module], folder: Path, precision: str, epochs: int = 2, **resumed: object
) -> tuple[Forecaster, Trainer]:
    seed_everything(0)
    model = Forecaster(kind)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        precision=precision,
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data(), **resumed)
    return model, trainer


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("cell", KINDS)
def test_the_trainer_fits_it_to_the_same_losses(cell, precision, tmp_path):
    theirs, ours = KINDS[cell]
    expected, _ = fitted(theirs, tmp_path, precision)
    with counting() as counted:
        found, _ = fitted(ours, tmp_path, precision)
    assert counted
    assert len(found.losses) == 2 * STEPS
    torch.testing.assert_close(found.losses, expected.losses, **TOLERANCE[precision])
    assert sum(expected.losses[STEPS:]) < sum(expected.losses[:STEPS])


def test_a_checkpoint_is_loaded_and_training_goes_on_from_it(tmp_path):
    path = tmp_path / "trained.ckpt"
    model, trainer = fitted(fastlstm.LSTM, tmp_path, "32-true", epochs=1)
    trainer.save_checkpoint(path)
    x = torch.randn(4, 20, 3)
    again = Forecaster.load_from_checkpoint(path, kind=fastlstm.LSTM)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)
    theirs = Forecaster.load_from_checkpoint(path, kind=nn.LSTM)  # the same names and shapes
    torch.testing.assert_close(theirs(x), model(x))
    straight, _ = fitted(fastlstm.LSTM, tmp_path, "32-true")
    resumed, _ = fitted(fastlstm.LSTM, tmp_path, "32-true", ckpt_path=path)
    assert resumed.losses == straight.losses[STEPS:]
