-- Adopts the tables of litellm-pgvector (its prisma/schema.prisma) where they are; those that 001 made stay as they
-- are. No vector is rewritten: vector(1536) becomes vector by a change of label, and so does timestamp become
-- timestamptz while the session's time zone is UTC, which is what Prisma stored. A WARNING goes into the service's log.
set local timezone = 'UTC';
lock table :"vector_stores", :"embeddings" in access exclusive mode;
-- Variables are not replaced inside of a quoted body.
select set_config('pgquiver.embeddings', :'embeddings', true), set_config('pgquiver.vector_store_id', :'vector_store_id', true),
  set_config('pgquiver.id', :'id', true), set_config('pgquiver.embedding', :'embedding', true),
  set_config('pgquiver.vector_stores', :'vector_stores', true), set_config('pgquiver.metadata', :'metadata', true),
  -- The length of every vector where the column's type names one; -1: it does not, and they may differ.
  set_config('pgquiver.dimensions', (
    select atttypmod::text from pg_attribute
    where attrelid = quote_ident(:'embeddings')::regclass and attname = :'embedding'), true);

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
    raise warning 'the index % on the vectors is dropped: a column of mixed lengths cannot have one', found.index;
    execute format('drop index %s', found.index);
  end loop;
end $$;

-- litellm-pgvector stored any JSON as metadata. A text that is itself an object in JSON was encoded twice; null is none;
-- anything else becomes the value of a key "value".
do $$
declare
  target record;
  found record;
  adopted jsonb;
  changed bigint;
begin
  for target in
    values (quote_ident(current_setting('pgquiver.vector_stores'))::regclass, 'metadata'::name),
      (quote_ident(current_setting('pgquiver.embeddings'))::regclass, current_setting('pgquiver.metadata')::name)
  loop
    changed := 0;
    for found in execute format('select ctid as place, %1$I as value from %2$s where jsonb_typeof(%1$I) <> ''object''',
      target.column2, target.column1)
    loop
      adopted := case when found.value <> 'null' then jsonb_build_object('value', found.value) end;
      if jsonb_typeof(found.value) = 'string' and ltrim(found.value #>> '{}') like '{%' then
        begin
          if jsonb_typeof((found.value #>> '{}')::jsonb) = 'object' then
            adopted := (found.value #>> '{}')::jsonb;
          end if;
        exception when others then null;
        end;
      end if;
      execute format('update %s set %I = $1 where ctid = $2', target.column1, target.column2)
        using adopted, found.place;
      changed := changed + 1;
    end loop;
    if changed > 0 then
      raise warning 'the metadata of % rows of % was not a JSON object: an object encoded as a text is decoded, null is removed, and any other value is kept under the key "value"',
        changed, target.column1;
    end if;
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
-- were never right: count the rows. A store's length is that of most of its vectors, of equally many the longer; searches
-- leave out the others.
with lengths as (
  select :"vector_store_id" as id, count(*) as rows, sum(octet_length(:"content")) as bytes,
    case when current_setting('pgquiver.dimensions')::int > 0 then current_setting('pgquiver.dimensions')::int
      else vector_dims(:"embedding") end as dimensions
  from :"embeddings"
  group by :"vector_store_id", 4
), counted as (
  select id, sum(rows) as rows, sum(bytes) as bytes, sum(rows) - max(rows) as others,
    (array_agg(dimensions order by rows desc, dimensions desc))[1] as dimensions
  from lengths
  group by id
), updated as (
  update :"vector_stores" as store
  set file_counts = jsonb_build_object('in_progress', 0, 'completed', coalesce(rows, 0), 'failed', 0, 'cancelled', 0,
        'total', coalesce(rows, 0)),
    usage_bytes = coalesce(bytes, 0),
    expires_after = case
      when store.expires_after ->> 'anchor' = 'last_active_at'
        and store.expires_after ->> 'days' ~ '^([1-9]|[1-9][0-9]|[12][0-9][0-9]|3[0-5][0-9]|36[0-5])$'
      then jsonb_build_object('anchor', 'last_active_at', 'days', (store.expires_after ->> 'days')::int)
    end,
    dimensions = counted.dimensions
  from :"vector_stores" as same left join counted using (id)
  where same.id = store.id
)
select set_config('pgquiver.mixed', coalesce(string_agg(
  format('%s (%s of %s vectors have not %s dimensions)', id, others, rows, dimensions), ', ' order by id), ''), true)
from (select * from counted where others > 0 order by others desc limit 20) as mixed;

do $$
begin
  if current_setting('pgquiver.mixed') <> '' then
    raise warning 'stores with vectors of several lengths, of which searches find those of the most frequent length: %',
      current_setting('pgquiver.mixed');
  end if;
end $$;

alter table :"vector_stores"
  alter column usage_bytes set default 0,
  alter column usage_bytes set not null,
  alter column file_counts set default '{"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}',
  alter column file_counts set not null;

-- The order in which stores are listed.
create index on :"vector_stores" (created_at, id);

insert into :"migrations" (version, name) values (2, '002_adopt_litellm_pgvector');
