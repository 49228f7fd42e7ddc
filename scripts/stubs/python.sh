#!/usr/bin/env bash
# Generates Python code from the exported protos and calls a running service with it: scripts/stubs/python.sh ADDRESS
# Needs Debian's protobuf-compiler, libprotobuf-dev, protobuf-compiler-grpc and python3-grpcio, or the same by
# other names. PYTHON names the interpreter; default python3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${NODE:-node}" "$here/../export-protos.ts" "$work/proto" >/dev/null
mkdir "$work/gen"
cd "$work/proto"
# All of google/api too, which the code imports; google/rpc shows that the details of errors compile.
find . -name '*.proto' -printf '%P\n' | xargs protoc -I . --python_out="$work/gen" --grpc_python_out="$work/gen" \
  --plugin=protoc-gen-grpc_python="$(command -v grpc_python_plugin)"
PYTHONPATH=$work/gen "${PYTHON:-python3}" "$here/client.py" "$1"
