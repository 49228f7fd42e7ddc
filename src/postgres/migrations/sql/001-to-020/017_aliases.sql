-- Expands.
-- Aliases: other names of stores. A version that does not know the table may delete a store that an alias names, or
-- create one under the name of an alias: the first alias then leads nowhere, and the second is hidden by the store.
create table :"aliases" (
  project_id text not null,
  name text not null,
  vector_store_id text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (project_id, name)
);
create index on :"aliases" (vector_store_id);

insert into :"migrations" (version, name) values (17, '017_aliases');
