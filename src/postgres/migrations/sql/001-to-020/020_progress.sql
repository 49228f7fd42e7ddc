-- Expands.
-- Progress of files and ingests, for those who watch them. A column without a default, or with a constant one, changes
-- the catalog only. A version that does not know the columns leaves them as they are: the progress of a file has the
-- claim of the attempt that it is of, and is shown only while the file has this claim.
alter table :"vector_store_files" add column progress jsonb;
alter table :"ingests" add column row_bytes bigint not null default 0, add column rows_announced bigint;

insert into :"migrations" (version, name) values (20, '020_progress');
