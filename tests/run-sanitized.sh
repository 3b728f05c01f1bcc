#!/bin/sh
# Unit and command-line tests, and runs from bad caches, under AddressSanitizer and UndefinedBehaviorSanitizer. Takes
# CTest options.
set -eu

cd "$(dirname "$0")/.."
jobs=$(nproc)

sh tools/install-packages.sh build test
cmake -S . -B build-sanitize -DAVANT_SANITIZE=ON
cmake --build build-sanitize -j "$jobs"
exec ctest --test-dir build-sanitize --output-on-failure --no-tests=error -j "$jobs" -L 'unit|discover|image|tools|cli|sanitized' "$@"
