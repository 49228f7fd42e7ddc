"""Loads, with threads and with asyncio, through a network that breaks."""

import asyncio
import datetime
import os
import socket
import threading

import grpc
import pytest

import pgquiver
from pgquiver.v1.embeddings_pb2 import CountEmbeddingsRequest
from pgquiver.v1.ingest_pb2 import ExportEmbeddingsRequest


def make_rows(count):
    return ({"id": f"r{i}", "content": f"Row {i} ".ljust(2000, "."), "embedding": [1, i, 2, 3]} for i in range(count))


def count(client, store_id):
    return client.embeddings.CountEmbeddings(CountEmbeddingsRequest(vector_store_id=store_id)).count


class BreakingNetwork:
    """A way to the service on which the first connections break after so many bytes from the client."""

    def __init__(self, limits):
        self._limits = list(limits)
        host, port = os.environ["PGQUIVER_URL"].rsplit("/", 1)[1].split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            near, _ = self._listener.accept()
            far = socket.create_connection(self._target)
            limit = self._limits.pop(0) if self._limits else None
            threading.Thread(target=self._pass, args=(near, far, limit), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, None), daemon=True).start()

    def _pass(self, source, sink, limit):
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if limit is not None and passed > limit:
                    break
                sink.sendall(data)
        except OSError:
            pass
        for each in (source, sink):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def test_loads_each_row_once_through_a_network_that_breaks(client, store_id):
    client.store(store_id).ensure()
    seen = []
    with pgquiver.Client(BreakingNetwork([300_000, 2_500_000, 1_500_000]).url) as broken:
        result = broken.load(store_id, make_rows(4000), progress=seen.append)
    assert (result.rows_written, result.rows_rejected) == (4000, 0)
    assert count(client, store_id) == 4000
    assert seen[-1].rows_committed == 4000


def test_loads_asynchronous_rows_through_a_network_that_breaks(client, store_id):
    client.store(store_id).ensure()

    async def rows():
        for row in make_rows(4000):
            yield row

    async def run():
        async with pgquiver.AsyncClient(BreakingNetwork([300_000, 2_500_000, 1_500_000]).url) as broken:
            return await broken.load(store_id, rows())

    assert asyncio.run(run()).rows_written == 4000
    assert count(client, store_id) == 4000


def test_goes_on_where_an_earlier_run_stopped(client, store_id):
    client.store(store_id).ensure()

    def broken():
        for index, row in enumerate(make_rows(3000)):
            if index == 2500:
                raise OSError("the disk is gone")
            yield row

    with pytest.raises(OSError, match="the disk is gone"):
        client.load(store_id, broken(), ingest_id="again")
    assert 0 < count(client, store_id) < 2500
    seen = []
    result = client.load(store_id, make_rows(3000), ingest_id="again", progress=seen.append)
    assert result.rows_written == 3000 and count(client, store_id) == 3000
    assert 0 < seen[-1].rows_resumed < 2500


def test_holds_few_batches_in_memory(client, store_id):
    client.store(store_id).ensure()
    read, committed = 0, 0

    def rows():
        nonlocal read
        for row in make_rows(30_000):
            read += 1
            # 16 batches of 1 MiB that are sent, one that is being cut.
            assert read - committed < 17 * 550 + 550
            yield row

    def note(progress):
        nonlocal committed
        committed = progress.rows_committed

    client.load(store_id, rows(), progress=note)
    assert committed == 30_000


def test_says_which_rows_were_refused(client, store_id):
    client.store(store_id).ensure(dimensions=2)
    rows = [{"content": str(i), "vector": [1, i] if i != 7 else [1, 2, 3]} for i in range(10)]
    result = client.load(store_id, rows)
    assert (result.rows_written, result.rows_rejected) == (9, 1)
    [refused] = result.refused
    assert (refused.index, refused.field, refused.code) == (7, "embedding", "DIMENSION_MISMATCH")


def test_raises_what_no_attempt_can_mend(client, store_id):
    with pytest.raises(grpc.RpcError) as missing:
        client.load("nowhere", make_rows(1))
    assert pgquiver.reason_of(missing.value) == "NOT_FOUND"
    with pytest.raises(ValueError, match="row 1: no text"):
        client.load(client.store(store_id).ensure().id, [{"content": "a"}, {"id": "b"}])


def test_loads_frames_of_pandas_and_arrays_of_numpy(client, store_id):
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    client.store(store_id).ensure()
    frame = pandas.DataFrame(
        {
            "id": [1, 2],
            "text": ["one", "two"],
            "vector": [numpy.array([1.0, 0.5]), numpy.array([0.0, 1.0])],
            "year": [2024, None],
            "day": pandas.to_datetime(["2024-01-02", None]),
        }
    )
    client.load(store_id, frame, progress=True)
    arrays = numpy.array([[1, 2], [3, 4]], dtype="float32")
    client.load(store_id, pgquiver.zip_rows(["three", "four"], arrays, ids=["3", "4"], metadata=[{"n": numpy.int64(3)}, {}]))
    exported = client.ingests.ExportEmbeddings(ExportEmbeddingsRequest(vector_store_id=store_id))
    rows = {row.id: (row.content, numpy.frombuffer(row.embedding, "<f4").tolist(), pgquiver.read_struct(row.metadata)) for row in exported}
    assert rows == {
        "1": ("one", [1, 0.5], {"year": 2024, "day": datetime.datetime(2024, 1, 2).isoformat()}),
        "2": ("two", [0, 1], {}),
        "3": ("three", [1, 2], {"n": 3}),
        "4": ("four", [3, 4], {}),
    }
    with pytest.raises(ValueError, match="differ in length"):
        client.load(store_id, pgquiver.zip_rows(["a", "b"], arrays[:1]))
