-- Adopts the tables of litellm-pgvector (its prisma/schema.prisma) where they are; those that 001 made stay as they
-- are. No vector is rewritten: vector(1536) becomes vector by a change of label, and so does timestamp become
-- timestamptz while the session's time zone is UTC, which is what Prisma stored.
set local timezone = 'UTC';
lock table :"vector_stores", :"embeddings" in access exclusive mode;
-- Variables are not replaced inside of a quoted body.
select set_config('pgquiver.embeddings', :'embeddings', true), set_config('pgquiver.vector_store_id', :'vector_store_id', true),
  set_config('pgquiver.id', :'id', true), set_config('pgquiver.embedding', :'embedding', true);

do $$
declare
  embeddings constant regclass := quote_ident(current_setting('pgquiver.embeddings'))::regclass;
  store_column constant name := current_setting('pgquiver.vector_store_id');
  id_column constant name := current_setting('pgquiver.id');
  column_numbers constant jsonb := (
    select jsonb_object_agg(attname, attnum) from pg_attribute where attrelid = embeddings and attnum > 0 and not attisdropped
  );
  key constant smallint[] := array[column_numbers -> store_column, column_numbers -> id_column]::smallint[];
  found record;
begin
  -- The foreign key to the stores, and the primary key (id): an id need only be unique in its store.
  for found in
    select conname from pg_constraint where conrelid = embeddings and (contype = 'f' or contype = 'p' and conkey <> key)
  loop
    execute format('alter table %s drop constraint %I', embeddings, found.conname);
  end loop;
  if not exists (select from pg_constraint where conrelid = embeddings and contype = 'p') then
    execute format('alter table %s add primary key (%I, %I)', embeddings, store_column, id_column);
  end if;
  -- A vector index needs a column of one length.
  for found in
    select distinct objid::regclass as index
    from pg_depend
    where refclassid = 'pg_class'::regclass and refobjid = embeddings
      and refobjsubid = (column_numbers ->> current_setting('pgquiver.embedding'))::int
      and classid = 'pg_class'::regclass and objid in (select indexrelid from pg_index where indrelid = embeddings)
  loop
    raise notice 'dropping index % on the embedding column', found.index;
    execute format('drop index %s', found.index);
  end loop;
end $$;

alter table :"embeddings"
  alter column :"embedding" type vector,
  alter column :"created_at" type timestamptz,
  alter column :"created_at" set default now();

alter table :"vector_stores"
  alter column name drop not null,
  alter column usage_bytes type bigint,
  alter column created_at type timestamptz,
  alter column created_at set default now(),
  alter column expires_at type timestamptz,
  alter column last_active_at type timestamptz,
  add column if not exists description text,
  add column if not exists dimensions int,
  add column if not exists embedding_model text;

-- litellm-pgvector took any object for an expiry and never acted on it: keep those that mean something. Its counters
-- were never right: count the rows.
with counted as (
  select :"vector_store_id" as id, count(*) as rows, sum(octet_length(:"content")) as bytes
  from :"embeddings"
  group by 1
)
update :"vector_stores" as store
set file_counts = jsonb_build_object('in_progress', 0, 'completed', coalesce(rows, 0), 'failed', 0, 'cancelled', 0,
      'total', coalesce(rows, 0)),
  usage_bytes = coalesce(bytes, 0),
  expires_after = case
    when store.expires_after ->> 'anchor' = 'last_active_at'
      and store.expires_after ->> 'days' ~ '^([1-9]|[1-9][0-9]|[12][0-9][0-9]|3[0-5][0-9]|36[0-5])$'
    then jsonb_build_object('anchor', 'last_active_at', 'days', (store.expires_after ->> 'days')::int)
  end,
  dimensions = (
    select vector_dims(:"embedding") from :"embeddings" where :"vector_store_id" = store.id limit 1
  )
from :"vector_stores" as same left join counted using (id)
where same.id = store.id;

alter table :"vector_stores"
  alter column usage_bytes set default 0,
  alter column usage_bytes set not null,
  alter column file_counts set default '{"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}',
  alter column file_counts set not null;

-- The order in which stores are listed.
create index on :"vector_stores" (created_at, id);

insert into :"migrations" (version, name) values (2, '002_adopt_litellm_pgvector');
