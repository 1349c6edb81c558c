#!/usr/bin/env bash
# Each wheel in dist/ that a Python given here can have: installed where there is no compiler and no torch, and run. What the build
# from source in .venv finds in this processor, it must find.
set -euo pipefail
cd "$(dirname "$0")/.."

expected=$(.venv/bin/python -c 'from fastlstm import _engine; print(*_engine.isas())')
for wheel in dist/*.whl; do
  size=$(stat -c %s "$wheel")
  ((size < 5000000)) || { echo "$wheel: $size bytes are too many"; exit 1; }
done
for python in "$@"; do
  where=build/wheels/test-$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  rm -rf "$where"
  "$python" -m venv "$where"
  "$where/bin/pip" install -q --disable-pip-version-check --only-binary :all: numpy safetensors
  "$where/bin/pip" install -q --disable-pip-version-check --no-index --find-links dist --only-binary fastlstm fastlstm
  env -i PATH="$PWD/$where/bin" "$where/bin/python" -I tests/alone/without_torch.py --isas "$expected"
done
