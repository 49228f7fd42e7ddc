-- Expands.
-- Erasures of projects: a job while it is in progress, and a report of what was erased afterwards.
create table :"erasures" (
  project_id text primary key,
  state text not null default 'in_progress' check (state in ('in_progress', 'completed')),
  requested_by text not null,
  requested_at timestamptz not null default now(),
  completed_at timestamptz,
  vector_stores bigint not null default 0,
  rows bigint not null default 0,
  usage_bytes bigint not null default 0,
  files bigint not null default 0,
  file_bytes bigint not null default 0,
  api_keys bigint not null default 0,
  other_rows bigint not null default 0,
  remaining_rows bigint,
  -- After a failure: not before when it is tried again, and why.
  retry_at timestamptz,
  last_error text
);

insert into :"migrations" (version, name) values (16, '016_erasures');
