#!/usr/bin/env bash
# Generates the Python code of our protos into generated/. PYTHON names the interpreter; default python3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
out=$here/generated

rm -rf "$out"
mkdir -p "$out/pgquiver/v1" "$out/google/api"

# The rules for HTTP come with the npm package protobufjs, so run `npm ci` first. Elsewhere the Python
# package googleapis-common-protos has them.
cp "$root"/node_modules/protobufjs/google/api/*.proto "$out/google/api"

# The vectors become `bytes`: on the wire a packed `repeated float` is nothing but its length and its
# values as little-endian float32, so `bytes` under the same field number is the same message, and Python
# need not handle 1,536 numbers a row. And `optional` is dropped for the old compiler that Debian ships:
# this client never needs to tell 0 from nothing.
protos=(pgquiver/v1/{ingest,embeddings,filters,paging}.proto)
for proto in "${protos[@]}"; do
  sed -e 's/repeated float embedding = 3;/bytes embedding = 3;/' -e 's/^\( *\)optional /\1/' \
    "$root/proto/$proto" >"$out/$proto"
done

"${PYTHON:-python3}" -m grpc_tools.protoc -I "$out" -I "$here" -I "$root/proto" \
  --python_out="$out" --grpc_python_out="$out" \
  "${protos[@]}" google/api/annotations.proto google/api/http.proto \
  google/rpc/error_details.proto status.proto
