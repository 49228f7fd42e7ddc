#!/usr/bin/env bash
# Fails on a breaking change of the protos that proto/BREAKING.md does not record as intended: compares the protos with
# those of the commit that changed BREAKING.md last (buf breaking). Needs `npm ci` and the full git history.
set -euo pipefail
cd "$(dirname "$0")/.."
breaks=proto/BREAKING.md

if [[ -n $(git status --porcelain -- "$breaks") ]]; then
  echo "$breaks has a change that is not committed: the break is meant, nothing is compared."
  exit
fi
base=$(git log -1 --format=%H -- "$breaks")
if [[ -z $base ]] || { [[ $(git rev-parse --is-shallow-repository) == true ]] && ! git rev-parse -q --verify "$base^" >/dev/null; }; then
  echo "The history does not reach back to the last change of $breaks: nothing to compare the protos with."
  exit
fi

before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive "$base" proto | tar -x -C "$before"
# The google/api imports come from an npm package and are not committed.
mkdir -p "$before/proto/google/api"
cp node_modules/protobufjs/google/api/*.proto "$before/proto/google/api"
npx buf build "$before/proto" --output "$before/image.binpb"
npx buf breaking proto --against "$before/image.binpb" --exclude-imports
echo "Nothing breaks a client of $(git log -1 --format='%h, %s' "$base")."
