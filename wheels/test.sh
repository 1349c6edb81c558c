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
  pip=(build/wheels/tools/bin/pip -q --disable-pip-version-check)
  expected=$isas
  if [[ $architecture == "$here" ]]; then
    pip+=(--python "$where/bin/python" install)
  else  # pip takes minutes under qemu: this machine's lays them there
    pip+=(install --no-deps --python-version "${name/-/.}" --target "$where/lib/python${name/-/.}/site-packages")
    for glibc in 2_17 2_27 2_28; do pip+=(--platform "manylinux_${glibc}_$architecture"); done
    expected="generic neon"
  fi
  "${pip[@]}" --only-binary :all: numpy safetensors
  "${pip[@]}" --only-binary :all: --no-index --find-links dist fastlstm
  env -i PATH="$PWD/$where/bin" "$where/bin/python" -I tests/alone/without_torch.py --isas "$expected" | tee "$where/found"
  ran+=("  $architecture, $(tail -n 1 "$where/found")")
done
printf '%s\n' "The wheels ran on" "${ran[@]}"
