"""The clients."""

from __future__ import annotations

import uuid
from typing import Any, Optional, Sequence, Tuple

from .connection import CallingChannel, Settings, make_settings, open_async_channel, open_channel
from .load import AsyncLoad, Load
from .load_state import LoadResult, LoadState, ProgressLike
from .progress import show_progress
from .store import AsyncStore, Store
from .v1.access_pb2_grpc import AccessServiceStub
from .v1.audit_pb2_grpc import AuditServiceStub
from .v1.diagnostics_pb2_grpc import DiagnosticsServiceStub
from .v1.embeddings_pb2_grpc import EmbeddingServiceStub
from .v1.files_pb2_grpc import FileServiceStub
from .v1.indexes_pb2_grpc import IndexServiceStub
from .v1.ingest_pb2_grpc import IngestServiceStub
from .v1.models_pb2_grpc import ModelServiceStub
from .v1.project_data_pb2_grpc import ProjectDataServiceStub
from .v1.search_pb2_grpc import SearchServiceStub
from .v1.usage_pb2_grpc import UsageServiceStub
from .v1.vector_store_files_pb2_grpc import VectorStoreFileServiceStub
from .v1.vector_stores_pb2_grpc import VectorStoreServiceStub

# Longer than the service allows itself.
TIMEOUT_SECONDS = 120.0


class _Services:
    """The services of the protos, one attribute each: `client.vector_stores.ListVectorStores(ListVectorStoresRequest())`."""

    def __init__(self, channel: Any):
        self.access = AccessServiceStub(channel)
        self.audit = AuditServiceStub(channel)
        self.diagnostics = DiagnosticsServiceStub(channel)
        self.embeddings = EmbeddingServiceStub(channel)
        self.files = FileServiceStub(channel)
        self.indexes = IndexServiceStub(channel)
        self.ingests = IngestServiceStub(channel)
        self.models = ModelServiceStub(channel)
        self.project_data = ProjectDataServiceStub(channel)
        self.search = SearchServiceStub(channel)
        self.usage = UsageServiceStub(channel)
        self.vector_store_files = VectorStoreFileServiceStub(channel)
        self.vector_stores = VectorStoreServiceStub(channel)


class Client(_Services):
    """
    A client of a service. Threads may share it.

    `url`: http://HOST:PORT or https://HOST:PORT; default PGQUIVER_URL, then http://127.0.0.1:8000. `api_key`: default
    PGQUIVER_API_KEY. `project`: the key's own project, which the service then checks. `timeout`: of a unary call, in seconds. `ca`:
    the certificates of authorities, PEM, default gRPC's; `certificate`: the client's chain and private key, PEM. `options`: further
    options of gRPC's channel.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        api_key: Optional[str] = None,
        project: Optional[str] = None,
        timeout: float = TIMEOUT_SECONDS,
        ca: Optional[bytes] = None,
        certificate: Optional[Tuple[bytes, bytes]] = None,
        options: Sequence[Tuple[str, Any]] = (),
    ):
        self.settings: Settings = make_settings(url, api_key, project, timeout, ca, certificate, options)
        self.channel = open_channel(self.settings)
        super().__init__(CallingChannel(self.channel, self.settings))

    def store(self, store_id: str) -> Store:
        """Returns the store of this id, which need not exist yet."""
        return Store(self, store_id)

    def load(
        self,
        store_id: str,
        rows: Any,
        *,
        mode: str = "insert",
        ingest_id: Optional[str] = None,
        progress: ProgressLike = False,
    ) -> LoadResult:
        """
        Loads rows into a store, each exactly once, through interruptions of the network and of the service. `rows`: an iterable of
        mappings or texts, or a pandas DataFrame; `zip_rows` makes rows of numpy arrays. `mode`: insert, upsert or skip_existing. A
        load that was interrupted goes on when it is run again with the same `ingest_id` and the same rows. `progress`: True for
        a bar of tqdm, or a function that gets LoadProgress. At most 16 batches of about 1 MiB are in memory.
        """
        with show_progress(progress, rows) as show:
            state = LoadState(store_id, mode, ingest_id or f"load-{uuid.uuid4()}", show)
            return Load(self.ingests, state, rows).run()

    def close(self) -> None:
        """Closes the connection."""
        self.channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class AsyncClient(_Services):
    """A client for the event loop in which it is made. The parameters are those of Client."""

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        api_key: Optional[str] = None,
        project: Optional[str] = None,
        timeout: float = TIMEOUT_SECONDS,
        ca: Optional[bytes] = None,
        certificate: Optional[Tuple[bytes, bytes]] = None,
        options: Sequence[Tuple[str, Any]] = (),
        settings: Optional[Settings] = None,
    ):
        self.settings = settings or make_settings(url, api_key, project, timeout, ca, certificate, options)
        self.channel = open_async_channel(self.settings)
        super().__init__(CallingChannel(self.channel, self.settings))

    def store(self, store_id: str) -> AsyncStore:
        """Returns the store of this id, which need not exist yet."""
        return AsyncStore(self, store_id)

    async def load(
        self,
        store_id: str,
        rows: Any,
        *,
        mode: str = "insert",
        ingest_id: Optional[str] = None,
        progress: ProgressLike = False,
    ) -> LoadResult:
        """Loads rows as Client.load does; `rows` may be an asynchronous iterable too."""
        with show_progress(progress, rows) as show:
            state = LoadState(store_id, mode, ingest_id or f"load-{uuid.uuid4()}", show)
            return await AsyncLoad(self.ingests, state, rows).run()

    async def close(self) -> None:
        """Closes the connection."""
        await self.channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()
