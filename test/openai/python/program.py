"""A program of retrieval with OpenAI's Python client. Its argument is the base URL."""

import io
import math
import pathlib
import sys
import tempfile

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="any", max_retries=0)
model = client.models.list().data[0].id

# Base64, which the client asks for by itself, and floats are the same.
packed = client.embeddings.create(model=model, input=["a whale", "a bow"]).data
plain = client.embeddings.create(model=model, input="a whale", encoding_format="float").data
assert [item.index for item in packed] == [0, 1]
assert math.isclose(math.hypot(*packed[0].embedding), 1, abs_tol=1e-5)
assert all(math.isclose(a, b, abs_tol=1e-7) for a, b in zip(packed[0].embedding, plain[0].embedding, strict=True))

# This client holds every reply to its types, which it does not do by itself. Vectors in base64 fail that, and batches:
# OpenAI itself answers with another `object` than its schema says.
loose = client
client = openai.OpenAI(base_url=sys.argv[1], api_key="any", max_retries=0, _strict_response_validation=True)
store = client.vector_stores.create(
    name="Python", metadata={"a": "b"}, expires_after={"anchor": "last_active_at", "days": 7}
)
whale = client.vector_stores.files.upload_and_poll(
    vector_store_id=store.id, file=("Wäl.md", io.BytesIO("The whale lives in the sea.".encode()))
)
bow = client.vector_stores.files.upload_and_poll(
    vector_store_id=store.id,
    file=("bow.txt", io.BytesIO(b"A bow shoots arrows.")),
    attributes={"number": 1.5, "flag": True, "text": "x"},
)
assert (whale.status, bow.status) == ("completed", "completed")
assert bow.attributes == {"number": 1.5, "flag": True, "text": "x"}
batch = loose.vector_stores.file_batches.upload_and_poll(
    vector_store_id=store.id, files=[(f"{n}.txt", io.BytesIO(f"file number {n}".encode())) for n in range(5)]
)
assert (batch.status, batch.file_counts.completed) == ("completed", 5)

[found] = client.vector_stores.search(store.id, query="where does the whale live", max_num_results=1).data
assert (found.file_id, found.filename) == (whale.id, "Wäl.md")
flag = {"type": "eq", "key": "flag", "value": True}
assert [hit.filename for hit in client.vector_stores.search(store.id, query=["bow", "sea"], filters=flag)] == ["bow.txt"]
assert len(list(client.vector_stores.files.list(store.id, limit=2))) == 7
text = client.vector_stores.files.content(bow.id, vector_store_id=store.id)
assert [piece.text for piece in text] == ["A bow shoots arrows."]
assert client.files.content(bow.id).read() == b"A bow shoots arrows."

# In parts: from memory, and from a file, whose parts the client cuts by itself.
reeds = b"The heron waits in the reeds. " * 1_000
uploaded = client.uploads.upload_file_chunked(
    file=reeds, filename="heron.txt", bytes=len(reeds), mime_type="text/plain", part_size=8_192, purpose="assistants"
)
assert (uploaded.status, uploaded.bytes, uploaded.file.filename) == ("completed", len(reeds), "heron.txt")
assert client.files.content(uploaded.file.id).read() == reeds
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "otter.md")
    path.write_bytes(b"The otter floats.")
    otter = client.uploads.upload_file_chunked(file=path, mime_type="text/markdown", purpose="assistants").file
attached = client.vector_stores.files.create_and_poll(otter.id, vector_store_id=store.id)
assert attached.status == "completed"
assert client.vector_stores.search(store.id, query="otter floats", max_num_results=1).data[0].file_id == otter.id
for file_id in (uploaded.file.id, otter.id):
    assert client.files.delete(file_id).deleted

nameless = client.vector_stores.create()
assert [listed.name for listed in client.vector_stores.list(order="asc")] == ["Python", ""]
assert client.vector_stores.delete(nameless.id).deleted

changed = client.vector_stores.update(store.id, name="Renamed", expires_after=None)
assert (changed.name, changed.expires_after, changed.metadata) == ("Renamed", None, {"a": "b"})
assert client.vector_stores.files.delete(bow.id, vector_store_id=store.id).deleted
assert client.vector_stores.retrieve(store.id).file_counts.total == 6
assert client.files.delete(bow.id).deleted
assert client.vector_stores.delete(store.id).deleted
try:
    client.vector_stores.search(store.id, query="whale")
    raise AssertionError("the store is still there")
except openai.NotFoundError as error:
    assert f"No vector store found with id '{store.id}'" in error.message
