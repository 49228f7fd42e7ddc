-- Expands.
-- The few stores that diagnostics look for among many: those that have no index yet or failed to get one, and those with a table
-- of their own. Partial indexes, on columns that searches and writers of rows do not change, so their updates stay HOT.
create index on :"vector_stores" (id) where index_state in ('waiting', 'moving', 'building', 'failed');
create index on :"vector_stores" (own_table) where own_table is not null;

insert into :"migrations" (version, name) values (26, '026_few_stores');
