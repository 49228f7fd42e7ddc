#!/usr/bin/env bash
# Generates Go code from the exported protos and calls a running service with it: scripts/stubs/go.sh ADDRESS
# Needs protoc (Debian: protobuf-compiler and libprotobuf-dev), Go 1.26 or newer, and the modules of go/go.mod, which
# Go fetches unless they are there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
module=github.com/pgquiver/pgquiver/gen/go

"${NODE:-node}" "$here/../export-protos.ts" "$work/proto" >/dev/null
cp -r "$here/go" "$work/go"
cd "$work/go"
go build -o "$work/bin/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH=$work/bin:$PATH protoc -I "$work/proto" --go_out=. --go_opt=module=$module --go-grpc_out=. \
  --go-grpc_opt=module=$module "$work"/proto/pgquiver/v1/*.proto
go vet ./...
go run . "$1"
