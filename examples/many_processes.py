"""The demo's forecaster trained by several processes, each on its share of every batch.

Run: torchrun --nproc-per-node 2 examples/many_processes.py --strategy ddp (or fsdp)
or, in one process: python examples/many_processes.py
"""

import argparse
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fastlstm
from fastlstm.demo import series
from fastlstm.demo.training import Settings

SETTINGS = Settings()


class Forecaster(nn.Module):
    """From windows (T, N, I) to the weeks ahead, (N, weeks)."""

    def __init__(self, lstm: nn.LSTM | fastlstm.LSTM, weeks: int) -> None:
        super().__init__()
        self.lstm = lstm
        self.head = nn.Linear(lstm.hidden_size, weeks, dtype=lstm.weight_ih_l0.dtype)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.lstm(x)
        return self.head(output[-1])


def spread(model: nn.Module, strategy: str) -> nn.Module:
    """The model as a member of its process group: ddp, every process has every parameter; fsdp, a part of each."""
    if strategy == "ddp":
        return nn.parallel.DistributedDataParallel(model)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(model.lstm, mesh=mesh)  # gathered by itself, and given back before the head runs
    return fully_shard(model, mesh=mesh)


def backward(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Leaves in every process the gradients of the whole batch, x (T, N, I) and y (N, weeks); returns its mean loss."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    mine = slice(rank, None, world)
    # Shares may differ by a sequence, so a mean of their means is not the batch's. Both strategies divide the sum of the
    # gradients by the number of processes: that is undone here.
    loss = nn.functional.mse_loss(model(x[:, mine]), y[mine], reduction="sum") / y.numel()
    (loss * world).backward()
    loss = loss.detach()
    if world > 1:
        dist.all_reduce(loss)
    return loss.item()


def whole(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of the model before it was spread, with whole tensors, on rank 0. Every process must call it."""
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def leave() -> None:
    """Ends this process, with 0, once every process has come here. Torch keeps the threads of gloo for as long as a spread
    model has lived: one that still lets go of a tensor while Python is shutting down would abort the process.
    """
    dist.barrier()
    dist.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", choices=["ddp", "fsdp"], default="ddp")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--save", type=Path, default=Path("forecaster.safetensors"))
    parser.add_argument("--resume", type=Path, help="start from the parameters of an earlier run, of either strategy")
    options = parser.parse_args()

    torch.set_num_threads(SETTINGS.threads)
    if "WORLD_SIZE" in os.environ:  # torchrun sets it
        dist.init_process_group("gloo")
    co2 = series.load()
    scale, origins = series.scale_of(co2), series.training_origins(co2)
    x = torch.from_numpy(series.inputs(co2, scale, origins))
    y = torch.from_numpy(series.targets(co2, scale, origins))

    torch.manual_seed(SETTINGS.seed)  # the same parameters and the same batches in every process
    model: nn.Module = Forecaster(fastlstm.LSTM(x.shape[2], SETTINGS.hidden_size, SETTINGS.num_layers), series.YEAR)
    if options.resume is not None:
        model.load_state_dict(load_file(options.resume))
    if dist.is_initialized():
        model = spread(model, options.strategy)
    optimizer = torch.optim.Adam(model.parameters(), lr=SETTINGS.learning_rate)
    for step in range(options.steps):
        batch = torch.randint(len(origins), (SETTINGS.batch,))
        optimizer.zero_grad()
        loss = backward(model, x[:, batch], y[batch])
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if not dist.is_initialized() or dist.get_rank() == 0:
            print(f"step {step}: loss {loss:.7f}")

    state = whole(model)
    if state:  # rank 0
        save_file(state, options.save)
    if dist.is_initialized():
        leave()


if __name__ == "__main__":
    main()
