#!/usr/bin/env bash
# Generates pgquiver/v1 from the protos of this repository. The result is committed. Run `npm ci` first. PYTHON is an interpreter
# with grpcio-tools 1.60.2 and mypy-protobuf 3.6.0; default python3. Newer versions of grpcio-tools generate code that
# only a range of protobuf's versions accepts.
set -euo pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${NODE:-../../node_modules/.bin/node}" ../../scripts/export-protos.ts "$work/proto" >/dev/null
mkdir "$work/out"
PATH=$(dirname "$(command -v "$python")"):$PATH "$python" -m grpc_tools.protoc -I "$work/proto" \
  --python_out="$work/out" --pyi_out="$work/out" --grpc_python_out="$work/out" --mypy_grpc_out="$work/out" \
  "$work"/proto/pgquiver/v1/*.proto
rm -rf pgquiver/v1
mv "$work/out/pgquiver/v1" pgquiver/v1
touch pgquiver/v1/__init__.py
