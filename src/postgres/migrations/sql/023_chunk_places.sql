-- Expands.
-- Where a chunk stands in its file, for citations: {"start": index of its first character in the text of the file, in
-- code points, "end": index behind the last, "page" and "lastPage": numbers from 1, absent where the format has no pages,
-- "headings": those above it, the outermost first, absent where there are none}. Null: the row is no chunk, or a version
-- that does not know the column has added it. A column without a default changes the catalog only.

-- Own tables that are being filled lack the column: the copies are withdrawn and begun again, by whichever version. First,
-- because the worker that copies locks this row before the tables. Variables are not replaced inside of a quoted body.
select set_config('pgquiver.indexes', :'indexes', true);
do $$
begin
  execute format('update %I set table_oid = null where phase in (''copying'', ''following'')',
    current_setting('pgquiver.indexes'));
end $$;

-- The own tables that are children of the shared one get the column with it.
alter table :"embeddings" add column if not exists chunk_place jsonb;
alter table :"staged_chunks" add column chunk_place jsonb;

-- Those that hold rows and are no children: not yet, or, as distributed tables of a cluster, never.
do $$
declare
  own record;
begin
  for own in execute format(
    'select to_regclass(quote_ident(own_table)) as name from %I where phase in (''cleaning'', ''settled'')',
    current_setting('pgquiver.indexes'))
  loop
    if own.name is not null and not exists (
      select from pg_attribute where attrelid = own.name and attname = 'chunk_place' and not attisdropped)
    then
      execute format('alter table %s add column chunk_place jsonb', own.name);
    end if;
  end loop;
end $$;

insert into :"migrations" (version, name) values (23, '023_chunk_places');
