-- Expands.
-- Projects separate the stores, files and keys of teams. What is there already, and what older versions write, is in the
-- project `default`. The id of a store of another project begins with the project's and a slash, which no id that a
-- caller chooses can have: so ids are unique in a project, and every table that names a store stays as it is. Constant
-- defaults: nothing is rewritten.
create table :"projects" (
  id text primary key,
  name text not null,
  created_at timestamptz not null default now(),
  archived_at timestamptz
);
insert into :"projects" (id, name) values ('default', 'Default project');

create table :"api_keys" (
  id text primary key,
  project_id text not null,
  name text not null,
  -- SHA-256 of the key, which has 256 random bits: no salt and no slow hash could make it harder to guess.
  digest bytea not null unique,
  redacted text not null,
  scopes text[] not null,
  -- By the ids callers use; null: all stores of the project.
  store_ids text[],
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
create index on :"api_keys" (project_id, created_at, id);

alter table :"vector_stores" add column if not exists project_id text not null default 'default';
create index on :"vector_stores" (project_id, created_at, id);

alter table :"files" add column if not exists project_id text not null default 'default';
create index on :"files" (project_id, created_at, id) where state = 'ready';

insert into :"migrations" (version, name) values (12, '012_projects');
