#!/bin/sh
# All tests: installs what is missing, builds with gcc and with clang, runs CTest. Used by CI.
set -eu

cd "$(dirname "$0")/.."
jobs=$(nproc)

sh tools/install-packages.sh build guest test

# Warnings are errors: a second compiler sees other ones. Of what it builds only a boot and the instructions are run.
cmake -S . -B build-clang -DCMAKE_C_COMPILER=clang -DAVANT_TESTS=ON
cmake --build build-clang -j "$jobs"
ctest --test-dir build-clang --output-on-failure --no-tests=error -j "$jobs" -R 'insn|boot.cloud'

cmake -S . -B build -DCMAKE_C_COMPILER=gcc -DAVANT_TESTS=ON
cmake --build build -j "$jobs"
exec ctest --test-dir build --output-on-failure --no-tests=error -j "$jobs"
