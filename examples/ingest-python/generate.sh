#!/usr/bin/env bash
# Generates Python code from pgquiver's protos into generated/. PYTHON is the interpreter; default python3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
out=$here/generated

rm -rf "$out"
mkdir -p "$out/pgquiver/v1" "$out/google/api"

# The protos of google/api come from the npm package protobufjs, so run `npm ci` first. Outside of this
# repository, use the Python package googleapis-common-protos.
cp "$root"/node_modules/protobufjs/google/api/*.proto "$out/google/api"

# Changes the type of vectors to `bytes`: a packed `repeated float` has the same wire format as `bytes` of
# little-endian float32 with the same field number, and Python then need not encode 1,536 numbers a row.
# Drops `optional`, which the old protoc of Debian does not know: this client never needs to tell an absent
# field from 0.
protos=(pgquiver/v1/{ingest,embeddings,filters,indexes,options,paging}.proto)
for proto in "${protos[@]}"; do
  sed -e 's/repeated float embedding = 3 \[.*\];/bytes embedding = 3;/' -e 's/^\( *\)optional /\1/' \
    "$root/proto/$proto" >"$out/$proto"
done

"${PYTHON:-python3}" -m grpc_tools.protoc -I "$out" -I "$here" -I "$root/proto" \
  --python_out="$out" --grpc_python_out="$out" \
  "${protos[@]}" google/api/annotations.proto google/api/http.proto \
  google/rpc/error_details.proto status.proto
