"""Calls a unary RPC and RPCs that stream in each direction, by code that protoc generated. Run by python.sh."""

import sys

import grpc
from google.rpc import error_details_pb2
from pgquiver.v1 import embeddings_pb2, ingest_pb2, ingest_pb2_grpc, vector_stores_pb2, vector_stores_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1])
stores = vector_stores_pb2_grpc.VectorStoreServiceStub(channel)
ingests = ingest_pb2_grpc.IngestServiceStub(channel)

store = stores.CreateVectorStore(vector_stores_pb2.CreateVectorStoreRequest(name="python", dimensions=2))
rows = [
    embeddings_pb2.EmbeddingInput(id=f"row-{index}", content=f"text {index}", embedding=[1, index])
    for index in range(3)
]
summary = ingests.Ingest(
    iter(
        [
            ingest_pb2.IngestRequest(open=ingest_pb2.IngestOpen(vector_store_id=store.id)),
            ingest_pb2.IngestRequest(batch=ingest_pb2.IngestBatch(seq=1, rows=rows)),
            ingest_pb2.IngestRequest(finish=ingest_pb2.IngestFinish(rows=len(rows))),
        ]
    )
)
assert summary.state == ingest_pb2.INGEST_STATE_COMPLETED, summary
exported = ingests.ExportEmbeddings(ingest_pb2.ExportEmbeddingsRequest(vector_store_id=store.id))
assert [row.content for row in exported] == [row.content for row in rows]

try:
    stores.GetVectorStore(vector_stores_pb2.GetVectorStoreRequest(vector_store_id="none"))
    raise AssertionError("a store that is not there was found")
except grpc.RpcError as error:
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
assert error_details_pb2.ErrorInfo(reason="NOT_FOUND").reason == "NOT_FOUND"
print(f"Python: {summary.rows_written} rows written and read")
