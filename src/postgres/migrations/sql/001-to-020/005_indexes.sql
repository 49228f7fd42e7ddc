-- What a large store needs: a table of its own, beside the shared one, with a vector index. Constant defaults and
-- nullable columns: nothing is rewritten.
alter table :"vector_stores"
  -- Rows of the store, in whichever table they are.
  add column if not exists embedding_count bigint not null default 0,
  -- Moves with every write to them, so that a replica can be asked whether it has the latest.
  add column if not exists row_changes bigint not null default 0,
  -- What the index is to keep of each vector; null: chosen by dimensions.
  add column if not exists precision text check (precision in ('float32', 'float16', 'binary')),
  -- Text search configuration for hybrid search; null: the service's own.
  add column if not exists language text,
  add column if not exists index_policy text not null default 'auto' check (index_policy in ('auto', 'always', 'never')),
  add column if not exists index_state text not null default 'none'
    check (index_state in ('none', 'waiting', 'moving', 'building', 'ready', 'failed')),
  -- The table that holds the store's rows; null: the shared one.
  add column if not exists own_table text,
  -- What the index in use keeps of each vector; null: there is none, so that searches are exact.
  add column if not exists index_precision text check (index_precision in ('float32', 'float16', 'binary'));

-- Until now every embedding counted as a file.
update :"vector_stores" set embedding_count = (file_counts ->> 'completed')::bigint;

-- The file a chunk was cut from, and its place in it; null where the caller added the row.
alter table :"embeddings"
  add column if not exists file_id text,
  add column if not exists chunk_index int;

-- The stores that have, are to have or were asked about a table and an index of their own. What searches and writers need
-- to know of it stands in the store's row.
create table :"indexes" (
  number bigint generated always as identity primary key,
  -- Null: the store is gone, and its table is still to be dropped.
  vector_store_id text unique,
  -- The store's own table, as soon as it is made, and where the rows are: in the shared table; being copied; copied but
  -- for the latest changes; in the own table and still in the shared one; in the own table, a child of the shared one.
  own_table text unique,
  -- Tells a table that was restored from a dump, where `changed_since` means nothing.
  table_oid oid,
  phase text not null default 'shared' check (phase in ('shared', 'copying', 'following', 'cleaning', 'settled')),
  -- The last id copied, how many were, and the first transaction whose changes the copy may lack.
  copied_through text,
  copied_rows bigint not null default 0,
  changed_since xid8,
  -- What the index is to be made of, the one in use, and the one being built or just taken into use. Twice pgvector's
  -- ef_construction takes two to three times as long to build, and then finds more in less time: see docs/search.md.
  m int not null default 16,
  ef_construction int not null default 128,
  current_index jsonb,
  next_index jsonb,
  rebuild boolean not null default false,
  -- Whether there is something to do, since when, and not before when.
  due boolean not null default true,
  due_since timestamptz not null default now(),
  retry_at timestamptz,
  attempts int not null default 0,
  last_error text
);
create index on :"indexes" (due_since) where due;

insert into :"migrations" (version, name) values (5, '005_indexes');
