-- Expands.
-- The metadata keys that are to have a B-tree index in the store's own table: [{"key": "year", "type": "number"}, …].
-- Which of them have one is read from Postgres's catalog. A constant default: nothing is rewritten.
alter table :"indexes" add column if not exists attributes jsonb not null default '[]';

insert into :"migrations" (version, name) values (10, '010_attribute_indexes');
