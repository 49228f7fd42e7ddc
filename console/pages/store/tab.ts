import type { VectorStore } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";

/** What a tab of a store gets. */
export interface TabProps {
  store: VectorStore;
  /** To be called after a change of what the store has. */
  onChange: () => void;
}
