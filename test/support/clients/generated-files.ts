import type { DescFile } from "@bufbuild/protobuf";
import * as access from "../../../gen/pgquiver/v1/access_pb.ts";
import * as audit from "../../../gen/pgquiver/v1/audit_pb.ts";
import * as diagnostics from "../../../gen/pgquiver/v1/diagnostics_pb.ts";
import * as embeddings from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import * as files from "../../../gen/pgquiver/v1/files_pb.ts";
import * as filters from "../../../gen/pgquiver/v1/filters_pb.ts";
import * as indexes from "../../../gen/pgquiver/v1/indexes_pb.ts";
import * as ingest from "../../../gen/pgquiver/v1/ingest_pb.ts";
import * as models from "../../../gen/pgquiver/v1/models_pb.ts";
import * as options from "../../../gen/pgquiver/v1/options_pb.ts";
import * as paging from "../../../gen/pgquiver/v1/paging_pb.ts";
import * as projectData from "../../../gen/pgquiver/v1/project_data_pb.ts";
import * as search from "../../../gen/pgquiver/v1/search_pb.ts";
import * as usage from "../../../gen/pgquiver/v1/usage_pb.ts";
import * as vectorStoreFiles from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import * as vectorStores from "../../../gen/pgquiver/v1/vector_stores_pb.ts";

/** The proto files of the API, to which the generated code of the client packages is compared. */
export const generatedFiles: readonly DescFile[] = [
  access.file_pgquiver_v1_access,
  audit.file_pgquiver_v1_audit,
  diagnostics.file_pgquiver_v1_diagnostics,
  embeddings.file_pgquiver_v1_embeddings,
  files.file_pgquiver_v1_files,
  filters.file_pgquiver_v1_filters,
  indexes.file_pgquiver_v1_indexes,
  ingest.file_pgquiver_v1_ingest,
  models.file_pgquiver_v1_models,
  options.file_pgquiver_v1_options,
  paging.file_pgquiver_v1_paging,
  projectData.file_pgquiver_v1_project_data,
  search.file_pgquiver_v1_search,
  usage.file_pgquiver_v1_usage,
  vectorStoreFiles.file_pgquiver_v1_vector_store_files,
  vectorStores.file_pgquiver_v1_vector_stores,
];
