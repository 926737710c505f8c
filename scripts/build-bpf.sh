#!/usr/bin/env bash
# Builds the programs for the kernel, bpf/*.bpf.c, into the objects that are committed beside them.
#
#   scripts/build-bpf.sh [FOLDER]
#
# The objects go to FOLDER, bpf/ unless told otherwise. They are the same to the byte wherever they
# are built with Debian's clang-16 and libbpf-dev, so that anybody can check them.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
into=${1:-bpf}

for tool in clang-16 llvm-strip-16; do
    if ! command -v "$tool" >/dev/null; then
        echo "build-bpf.sh: $tool is missing; on Debian: apt-get install clang-16 llvm-16 libbpf-dev" >&2
        exit 1
    fi
done

for source in bpf/*.bpf.c; do
    object=$into/$(basename "${source%.c}").o
    # -g adds the type information that the loader reads; everything else that it adds is stripped.
    clang-16 -target bpfel -mcpu=v3 -O2 -g -Wall -Wextra -Werror \
        -idirafter "/usr/include/$(uname -m)-linux-gnu" -ffile-prefix-map="$PWD"=. \
        -c "$source" -o "$object"
    llvm-strip-16 -g "$object"
done
