-- Files attached to stores. The rows that are in progress are the queue of the workers as well.
create table :"vector_store_files" (
  vector_store_id text not null,
  file_id text not null,
  created_at timestamptz not null default now(),
  status text not null default 'in_progress' check (status in ('in_progress', 'completed', 'cancelled', 'failed')),
  -- {"unit": "tokens" or "characters", "sizeMax": n, "overlap": n}
  chunking jsonb not null,
  attributes jsonb,
  -- UTF-8 bytes of the chunks' text, and how many there are. Their ids are <file_id>_0 and so on.
  usage_bytes bigint not null default 0,
  chunk_count int not null default 0,
  error_code text check (error_code in ('server_error', 'unsupported_file', 'invalid_file')),
  error_message text,
  -- From when on a worker may take it: at once, after a pause, or, while one works on it, when that one's lease ends.
  due_at timestamptz not null default now(),
  -- Its place among the files attached together, from 0: files are taken in this order, so that batches take turns and
  -- a single file does not wait for a whole batch.
  place int not null default 0,
  -- Which attempt holds it. One that is superseded finds another value, and writes nothing.
  claim text,
  -- How often it was taken and not given back, and how often given back because something else was away.
  attempts int not null default 0,
  retries int not null default 0,
  -- When it was first given back for that.
  waiting_since timestamptz,
  primary key (vector_store_id, file_id)
);

-- For lists, for what is due, for the worker that holds it, and for all stores of a file.
create index on :"vector_store_files" (vector_store_id, created_at, file_id);
create index on :"vector_store_files" (place, due_at) where status = 'in_progress';
create index on :"vector_store_files" (claim) where claim is not null;
create index on :"vector_store_files" (file_id);

-- Files attached together. How far they are stands in their own rows.
create table :"file_batches" (
  vector_store_id text not null,
  id text not null,
  created_at timestamptz not null default now(),
  file_ids text[] not null,
  -- Whether a cancellation stopped any of them.
  cancelled boolean not null default false,
  primary key (vector_store_id, id)
);

-- Where files that were removed stood in the list, for an hour: a loop that removes what it lists goes on from there.
create table :"removed_files" (
  vector_store_id text not null,
  file_id text not null,
  created_at timestamptz not null,
  removed_at timestamptz not null default now(),
  primary key (vector_store_id, file_id)
);

-- Chunks of files too large to be written in one go, by attempt, until the file is complete. A crash of Postgres
-- empties it, which the attempt notices by their number.
create unlogged table :"staged_chunks" (
  claim text not null,
  chunk_index int not null,
  content text not null,
  embedding vector not null,
  primary key (claim, chunk_index)
);
alter table :"staged_chunks" alter column embedding set storage main, set (toast_tuple_target = 8160);

insert into :"migrations" (version, name) values (7, '007_vector_store_files');
