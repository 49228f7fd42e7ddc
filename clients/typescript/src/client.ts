import type { DescService } from "@bufbuild/protobuf";
import {
  createClient,
  type Client as ServiceClient,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import { AccessService } from "../../../gen/pgquiver/v1/access_pb.ts";
import { AuditService } from "../../../gen/pgquiver/v1/audit_pb.ts";
import { DiagnosticsService } from "../../../gen/pgquiver/v1/diagnostics_pb.ts";
import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IndexService } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { ModelService } from "../../../gen/pgquiver/v1/models_pb.ts";
import { ProjectDataService } from "../../../gen/pgquiver/v1/project_data_pb.ts";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import { UsageService } from "../../../gen/pgquiver/v1/usage_pb.ts";
import { VectorStoreFileService } from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { Store } from "./store.ts";

/** Where the service listens by default. */
export const DEFAULT_URL = "http://127.0.0.1:8000";

/** Timeout of a unary call: longer than the service allows itself. */
export const TIMEOUT_MS = 120_000;

/** Who calls which service. */
export interface ClientOptions {
  /** http://HOST:PORT or https://HOST:PORT; default http://127.0.0.1:8000. */
  url?: string;
  apiKey?: string;
  /** The key's own project, which the service then checks. */
  project?: string;
  /** Timeout of a unary call; default 120 s. */
  timeoutMs?: number;
}

/** Makes an interceptor that sends the caller's key and project with each call. */
export function authorize({ apiKey, project }: ClientOptions): Interceptor {
  return (next) => (request) => {
    if (apiKey !== undefined) request.header.set("authorization", `Bearer ${apiKey}`);
    if (project !== undefined) request.header.set("openai-project", project);
    return next(request);
  };
}

/** The services of the protos, one property each, over one transport. Nothing is sent before the first call. */
export class Client {
  readonly access: ServiceClient<typeof AccessService>;
  readonly audit: ServiceClient<typeof AuditService>;
  readonly diagnostics: ServiceClient<typeof DiagnosticsService>;
  readonly embeddings: ServiceClient<typeof EmbeddingService>;
  readonly files: ServiceClient<typeof FileService>;
  readonly indexes: ServiceClient<typeof IndexService>;
  readonly ingests: ServiceClient<typeof IngestService>;
  readonly models: ServiceClient<typeof ModelService>;
  readonly projectData: ServiceClient<typeof ProjectDataService>;
  readonly search: ServiceClient<typeof SearchService>;
  readonly usage: ServiceClient<typeof UsageService>;
  readonly vectorStoreFiles: ServiceClient<typeof VectorStoreFileService>;
  readonly vectorStores: ServiceClient<typeof VectorStoreService>;

  constructor(transport: Transport) {
    const make = <T extends DescService>(service: T) => createClient(service, transport);
    this.access = make(AccessService);
    this.audit = make(AuditService);
    this.diagnostics = make(DiagnosticsService);
    this.embeddings = make(EmbeddingService);
    this.files = make(FileService);
    this.indexes = make(IndexService);
    this.ingests = make(IngestService);
    this.models = make(ModelService);
    this.projectData = make(ProjectDataService);
    this.search = make(SearchService);
    this.usage = make(UsageService);
    this.vectorStoreFiles = make(VectorStoreFileService);
    this.vectorStores = make(VectorStoreService);
  }

  /** Returns the store of this id, which need not exist yet. */
  store(id: string): Store {
    return new Store(this, id);
  }
}
