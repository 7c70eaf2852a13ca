#!/bin/sh
# Compile unet.c to unet.wasm, or to the file that is named: sh build.sh [FILE]
# Needs clang and lld (Debian: apt-get install clang lld).  The committed file was made by clang
# 14.0.6, which makes the same bytes each time; another version may make other ones.
set -eu
here=$(dirname "$0")
out=${1:-$here/unet.wasm}
"${CLANG:-clang}" --target=wasm32 -O3 -msimd128 -ffreestanding -fno-builtin -nostdlib \
    -Wall -Wextra -Werror -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=16384 \
    -o "$out" "$here/unet.c"
