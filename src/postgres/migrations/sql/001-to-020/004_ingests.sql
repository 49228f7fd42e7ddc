-- How far each bulk ingest has come, written in the transaction of its rows.
create table :"ingests" (
  vector_store_id text not null,
  ingest_id text not null,
  -- The settings it was opened with, which must be the same each time.
  parameters jsonb not null,
  state text not null default 'open' check (state in ('open', 'completed', 'aborted')),
  through_seq bigint not null default 0,
  rows_written bigint not null default 0,
  rows_skipped bigint not null default 0,
  rows_rejected bigint not null default 0,
  -- The rows at fault, the first of them.
  errors jsonb not null default '[]',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (vector_store_id, ingest_id)
);

insert into :"migrations" (version, name) values (4, '004_ingests');
