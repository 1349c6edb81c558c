#!/usr/bin/env bash
# A Python of another Debian, of this architecture or of AArch64 (under qemu-user), unpacked in a folder of the build. On Debian and
# Ubuntu; nothing is installed. Prints where it is.
#
#   wheels/debian_python.sh forky 3.14 amd64
set -euo pipefail
cd "$(dirname "$0")/.."

suite=$1 version=$2 architecture=$3
root=$PWD/build/wheels/python/$version-$architecture
python=$root/usr/bin/python$version
if [[ ! -e $root/unpacked ]]; then
  rm -rf "$root"
  mkdir -p "$root"/apt/lists/partial "$root"/apt/cache/archives/partial
  touch "$root/apt/status"
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | sed -n 1p)
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$root/apt/sources.list"
  apt=(apt-get -qq -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Install-Recommends=false
    -o Acquire::Languages=none -o APT::Sandbox::User=root -o Dir::State="$root/apt" -o Dir::State::status="$root/apt/status"
    -o Dir::Cache="$root/apt/cache" -o Dir::Etc::sourcelist="$root/apt/sources.list" -o Dir::Etc::sourceparts=-)
  "${apt[@]}" update >&2
  "${apt[@]}" install -y --download-only "python$version" "python$version-venv" libstdc++6 >"$root/apt/log"
  mkdir -p "$root"/usr/{bin,lib,sbin,lib64}
  ln -s usr/{bin,lib,sbin,lib64} "$root"  # all of Debian's libraries are in usr/, whatever a package calls their folder
  for package in "$root"/apt/cache/archives/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$root"; done
  mv "$python" "$python.elf"
  # Its C library is another than this system's. It takes its own place, or a virtual environment's, from argv[0].
  if [[ $architecture == "$(dpkg --print-architecture)" ]]; then
    run="$(echo "$root"/lib*/ld-linux-*) --library-path $(echo "$root"/usr/lib/*-linux-gnu) --argv0 \"\$0\""
  else
    # The kernels that OpenBLAS, in NumPy, picks by itself multiply wrong under qemu 7.2.
    run="$(command -v qemu-aarch64) -E OPENBLAS_CORETYPE=ARMV8 -L $root -0 \"\$0\""
  fi
  printf '#!/bin/sh\nexec %s %s "$@"\n' "$run" "$python.elf" >"$python"
  chmod +x "$python"
  rm -r "$root/apt/cache" "$root/apt/lists"
  touch "$root/unpacked"
fi
echo "$python"
