-- Expands.
-- The recall asked of a store's index, and what was last measured of it: see RecallRecord in src/storage/recall.ts.
-- Nullable columns and constant defaults: nothing is rewritten.
-- Writers read the store's row first: in the same order, none that has it waits for the catalog of indexes.
-- hnsw.ef_search of searches without and with a filter, as tuned for the recall asked; null: the session's setting.
alter table :"vector_stores"
  add column if not exists ef_search int,
  add column if not exists filtered_ef_search int,
  -- Whether the store's own table has the column content_tsvector, as all have that were made before.
  add column if not exists has_words boolean not null default true;

alter table :"indexes"
  -- Null: the default.
  add column if not exists target_recall float8,
  add column if not exists recall jsonb,
  -- Whether the store's own table is to keep the words of its texts.
  add column if not exists keyword_index boolean not null default true;

insert into :"migrations" (version, name) values (11, '011_recall');
