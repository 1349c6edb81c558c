#!/usr/bin/env bash
# Each wheel in dist/ that a Python can have: installed where there is no compiler and no torch, and run. What the build from source
# in .venv finds in this processor, it must find. The Pythons are those given here and, on Debian, others that it has packages of: the
# latest, and where there are wheels for AArch64 and qemu-user to run them, one for each.
set -euo pipefail
cd "$(dirname "$0")/.."

here=$(uname -m)
isas=$(.venv/bin/python -c 'from fastlstm import _engine; print(*_engine.isas())')
for wheel in dist/*.whl; do
  size=$(stat -c %s "$wheel")
  ((size < 5000000)) || { echo "$wheel: $size bytes are too many"; exit 1; }
done

pythons=("$@")
debians() { pythons+=("$(wheels/debian_python.sh "$@")"); }
if [[ -e /etc/debian_version ]]; then
  debians forky 3.14 "$(dpkg --print-architecture)"
  if [[ $here != aarch64 ]] && command -v qemu-aarch64 >/dev/null && compgen -G "dist/*aarch64.whl" >/dev/null; then
    debians bookworm 3.11 arm64
    debians forky 3.14 arm64
  fi
fi

for python in "${pythons[@]}"; do
  read -r name architecture < <("$python" -c 'import platform as p; print("-".join(p.python_version_tuple()[:2]), p.machine())')
  where=build/wheels/test-$name-$architecture
  rm -rf "$where"
  "$python" -m venv --without-pip "$where"
  pip=(build/wheels/tools/bin/pip --python "$where/bin/python" -q --disable-pip-version-check install)
  "${pip[@]}" --only-binary :all: numpy safetensors
  "${pip[@]}" --no-index --find-links dist --only-binary fastlstm fastlstm
  expected=$isas
  [[ $architecture == "$here" ]] || expected="generic neon"
  env -i PATH="$PWD/$where/bin" "$where/bin/python" -I tests/alone/without_torch.py --isas "$expected" | tee "$where/found"
  ran+=("  $architecture, $(tail -n 1 "$where/found")")
done
printf '%s\n' "The wheels ran on" "${ran[@]}"
