"""What schemathesis does not know of pgquiver: NDJSON, and which refusals the schemas could have foreseen."""

import json

import schemathesis

# Codes of docs/errors.md for a value that is refused for what it is. All others are about what no schema says: things that are not
# there or in another state, cursors of other requests, and fields that need or exclude each other.
FORESEEN = ("integer_", "string_", "array_", "object_", "invalid_type", "unknown_parameter")

# Values whose form no schema has: those of filters and of texts to embed are any JSON, the length of an upload is as its operator says,
# the end of a time comes after its start, and the keys of free objects have a length of their own.
FREE = ("filters", "input", "bytes", "end_time", "metadata", "attributes")


@schemathesis.serializer("application/x-ndjson")
def write_line(ctx, value):
    """The body of an ingest: the schema is that of a row."""
    return json.dumps(value).encode() + b"\n"


@schemathesis.check
def takes_what_schemas_say(ctx, response, case):
    """Fails when a value that the schema allows is refused for its type, its range or its length."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or response.status_code != 400:
        return
    error = response.json()["error"]
    param = (error["param"] or "").removeprefix("open.")
    if error["code"].startswith(FORESEEN) and not any(part.startswith(FREE) for part in param.split(".")):
        raise AssertionError(f"The schema allows what is refused: {error['message']}")
