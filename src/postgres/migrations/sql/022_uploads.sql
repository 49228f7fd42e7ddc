-- Expands.
-- Files that are uploaded in parts. A part is a row of the table of files in the state 'uploading', which is none for
-- readers: whoever removes uploads that broke off, versions before included, removes it two hours after its last sign of life.
create table :"uploads" (
  id text primary key,
  project_id text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  status text not null default 'pending' check (status in ('pending', 'completed', 'cancelled')),
  -- Of the whole file, as announced.
  bytes bigint not null,
  filename text not null,
  purpose text not null,
  -- Seconds after which the file expires.
  expires_after_seconds int,
  -- The file, once the upload is completed.
  file_id text
);
create index on :"uploads" (project_id) where status = 'pending';
create index on :"uploads" (expires_at);

-- The upload that a file is a part of; a part has its bytes once all of them are there. A column without a default
-- changes the catalog only.
alter table :"files" add column upload_id text;
create index on :"files" (upload_id) where upload_id is not null;

insert into :"migrations" (version, name) values (22, '022_uploads');
