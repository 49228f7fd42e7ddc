-- Expands.
-- A file that takes the place of another one when it is processed: {"fileId": the other one, "inherited": the
-- attributes taken from it, absent when the caller gave some}. While it is in progress its due_at is infinity, so that
-- a version that does not know the columns never takes it, which would add its chunks and keep those of the other one;
-- when it is due stands in replacement_due_at. Such a version may set due_at, when the file has failed and is attached
-- again: then it is attached beside the other one, as asked.
-- Columns without a default change the catalog only.
alter table :"vector_store_files" add column replaces jsonb, add column replacement_due_at timestamptz;

insert into :"migrations" (version, name) values (21, '021_file_versions');
