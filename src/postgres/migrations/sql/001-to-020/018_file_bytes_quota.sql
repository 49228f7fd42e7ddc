-- Expands.
-- A quota on the bytes of uploaded files. Nullable: nothing is rewritten. Versions before neither look at it nor change it.
alter table :"quotas" add column if not exists max_file_bytes bigint;

insert into :"migrations" (version, name) values (18, '018_file_bytes_quota');
