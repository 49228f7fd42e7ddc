# pip install pgquiver && python example.py rows.ndjson "a question"
import json
import sys

import pgquiver

client = pgquiver.Client()  # PGQUIVER_URL, PGQUIVER_API_KEY
store = client.store("example").ensure()
with open(sys.argv[1], encoding="utf-8") as file:
    result = client.load("example", map(json.loads, file), mode="upsert")
print(f"{result.rows_written} rows written")
for found in store.search(sys.argv[2], limit=3):
    print(f"{found.score:.3f} {found.content}")
