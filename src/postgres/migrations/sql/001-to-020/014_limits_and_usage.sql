-- Expands.
-- Limits and quotas of projects, limits of keys, and what projects use. Nullable columns, constant defaults and new
-- tables: nothing is rewritten. In the order in which a writer of a project with a quota takes locks: store, then quota.
-- What a store may hold before its writers ask the project's quota again: see src/storage/quotas.ts.
alter table :"vector_stores"
  add column if not exists rows_reserved bigint not null default 0,
  add column if not exists bytes_reserved bigint not null default 0;

-- A row for each project that has a quota. Its lock orders those who count against the quota.
create table :"quotas" (
  project_id text primary key,
  -- Null: any number.
  max_stores bigint,
  max_rows bigint,
  max_bytes bigint,
  max_files bigint,
  max_embedding_tokens_per_month bigint
);

-- See Limits in src/api/rates/limits.ts; null: none.
alter table :"projects" add column if not exists limits jsonb;
alter table :"api_keys" add column if not exists limits jsonb;

-- Tokens that the service embedded, per day (UTC).
create table :"token_usage" (
  project_id text not null,
  day date not null,
  model text not null,
  -- Empty: background work.
  api_key_id text not null,
  input_tokens bigint not null,
  requests bigint not null,
  primary key (project_id, day, model, api_key_id)
);
create index on :"token_usage" (day);

-- Bytes of texts in stores, as last noted on a day (UTC).
create table :"store_usage" (
  project_id text not null,
  day date not null,
  usage_bytes bigint not null,
  primary key (project_id, day)
);
create index on :"store_usage" (day);

insert into :"migrations" (version, name) values (14, '014_limits_and_usage');
