-- Expands.
-- Jobs that embed the texts of a store with another model: see src/vector-stores/reembedding/. The table with the new
-- vectors has a row in the catalog of indexes, without a store and not due: a version that does not know the jobs leaves it
-- alone, and drops it once the row is due.
create table :"reembeddings" (
  vector_store_id text primary key,
  -- Names this job, of several of one store.
  id uuid not null default gen_random_uuid(),
  -- Tells the store from a deleted one with the same id.
  store_created_at timestamptz not null,
  status text not null default 'in_progress' check (status in ('in_progress', 'completed', 'failed', 'cancelled')),
  phase text not null default 'copying' check (phase in ('copying', 'indexing', 'switching', 'cleaning')),
  -- The new model, the dimensions of its vectors, null until they are known, and what the store had.
  model text not null,
  dimensions int,
  former_model text,
  former_dimensions int,
  -- The table with the new vectors, and after the switch the one with the old ones.
  own_table text,
  former_table text,
  -- The last id copied, and the first transaction whose changes the copy may lack.
  copied_through text,
  changed_since xid8,
  rows_embedded bigint not null default 0,
  tokens bigint not null default 0,
  -- Texts that were searched for with both models, and the mean share of results in common.
  compared int,
  overlap float8,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  -- After a failure: not before when it is tried again, how often it was, and why.
  retry_at timestamptz,
  attempts int not null default 0,
  last_error text
);

insert into :"migrations" (version, name) values (24, '024_reembeddings');
