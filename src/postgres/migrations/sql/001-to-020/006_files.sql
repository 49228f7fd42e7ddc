-- Uploaded files. One that is still coming in, and one whose bytes have yet to be removed, is none for readers.
create table :"files" (
  id text primary key,
  state text not null check (state in ('uploading', 'ready', 'deleted')),
  filename text not null default '',
  purpose text not null default '',
  bytes bigint not null default 0,
  created_at timestamptz not null,
  expires_at timestamptz,
  -- Where the bytes are: a bucket's object with its endpoint, or, where null, the parts below.
  object_url text,
  -- The last sign of life of an upload; the last try to remove the bytes.
  updated_at timestamptz not null default now()
);
create index on :"files" (created_at, id) where state = 'ready';
create index on :"files" (expires_at) where state = 'ready';
create index on :"files" (updated_at) where state <> 'ready';

-- The bytes, 256 KiB a row. Measured on two busy cores, 128 MiB of noise through node-postgres, in MB/s:
--   parts of   8 KiB:  write  50-129
--   parts of  64 KiB:  write 119-276, read 398       embedded: write  50, read  85
--   parts of 256 KiB:  write 212-348, read 793       embedded: write 122, read 151
--   parts of   1 MiB:  write 230-382, read 720       embedded: write 139, read 257
--   large object:      write  41-168, read 223 at most, since only functions read it, whose bytes come as
--                      hexadecimal text; parts are read by binary COPY. Embedded: write 10, read 6.
-- Parts lie 1.04 times as large as they are, are deleted in 40 ms (a large object in 120 to 360) and vacuumed in 50
-- (100 to 460), are dumped with their schema (pg_dump -n leaves large objects out), have the rights of their table,
-- and no object stays behind when a row goes.
create table :"file_parts" (
  file_id text not null,
  part int not null,
  data bytea not null,
  primary key (file_id, part)
);
-- Documents are mostly compressed already, and what is not would cost more time than space.
alter table :"file_parts" alter column data set storage external;

insert into :"migrations" (version, name) values (6, '006_files');
