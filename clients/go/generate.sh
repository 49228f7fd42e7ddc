#!/usr/bin/env bash
# Generates pgquiverv1 from the protos of this repository. The result is committed. Run `npm ci` first. Needs protoc (Debian:
# protobuf-compiler and libprotobuf-dev), Go, and the modules of go.mod.
set -euo pipefail
cd "$(dirname "$0")"
module=github.com/pgquiver/pgquiver/clients/go
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${NODE:-../../node_modules/.bin/node}" ../../scripts/export-protos.ts "$work/proto" >/dev/null
go build -o "$work/bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
mappings=()
for proto in "$work"/proto/pgquiver/v1/*.proto; do
  mappings+=("pgquiver/v1/$(basename "$proto")=$module/pgquiverv1")
done
rm -rf pgquiverv1
PATH=$work/bin:$PATH protoc -I "$work/proto" --go_out=. --go_opt=module=$module "${mappings[@]/#/--go_opt=M}" \
  --go-grpc_out=. --go-grpc_opt=module=$module "${mappings[@]/#/--go-grpc_opt=M}" "$work"/proto/pgquiver/v1/*.proto
