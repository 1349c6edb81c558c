"""The demo's checkpoint at work: the year after the series ends.

Run `fastlstm demo` first, then: python examples/forecast_next_year.py [demo-output]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import fastlstm
from fastlstm.demo import report, series

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")
if not (folder / report.LSTM).exists():
    raise SystemExit(f"there is no {folder / report.LSTM}: run `fastlstm demo` first")
lstm = fastlstm.load(folder / report.LSTM)
head = nn.Linear(lstm.hidden_size, series.YEAR)
head.load_state_dict(load_file(folder / report.HEAD))
with safe_open(folder / report.HEAD, "pt") as file:
    scale = float(file.metadata()["scale"])

co2 = series.load()
today = np.array([len(co2.co2) - 1])
with torch.inference_mode():
    output, _ = lstm(torch.from_numpy(series.inputs(co2, scale, today)))
    (forecast,) = series.in_ppm(co2, scale, today, head(output[-1]).numpy())
for week in range(3, series.YEAR, 4):
    print(co2.dates[-1] + 7 * (week + 1), f"{forecast[week]:.1f} ppm")
