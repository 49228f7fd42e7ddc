-- The tables. By hand (migrate.ts does the same; every variable is a name, so it can be changed here):
--   psql -1 -v ON_ERROR_STOP=1 -v migrations=pgquiver_migrations -v vector_stores=vector_stores -v embeddings=embeddings
--        -v id=id -v vector_store_id=vector_store_id -v content=content -v embedding=embedding -v metadata=metadata
--        -v created_at=created_at -f 001_tables.sql -f 002_adopt_litellm_pgvector.sql -f 003_keep_vectors_in_rows.sql

create table if not exists :"vector_stores" (
  id text primary key,
  name text,
  description text,
  metadata jsonb,
  status text not null default 'completed',
  usage_bytes bigint not null default 0,
  file_counts jsonb not null default '{"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}',
  created_at timestamptz not null default now(),
  expires_after jsonb,
  expires_at timestamptz,
  last_active_at timestamptz,
  -- Length of the store's vectors; null until it has one.
  dimensions int,
  -- The model that made them; null where the caller did.
  embedding_model text
);

-- No foreign key and no trigger, which would cost every row of a bulk load, and no index on the vectors: the search
-- of one store is exact and reads its rows through the primary key.
create table if not exists :"embeddings" (
  :"vector_store_id" text not null,
  :"id" text not null,
  :"content" text not null,
  :"embedding" vector not null,
  :"metadata" jsonb,
  :"created_at" timestamptz not null default now(),
  primary key (:"vector_store_id", :"id")
);

create table :"migrations" (
  version int primary key,
  name text not null,
  applied_at timestamptz not null default now()
);
insert into :"migrations" (version, name) values (1, '001_tables');
