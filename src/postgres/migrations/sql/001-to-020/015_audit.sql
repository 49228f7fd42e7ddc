-- Expands.
-- The audit log: see src/audit/. Nothing is changed in it, and nothing deleted but by the retention, which says so by a
-- setting of its transaction. That guards against mistakes of programs with the service's rights, not against the
-- table's owner, who can drop the trigger: who must be kept out gets the log stream.
create table :"audit_log" (
  id text primary key,
  -- When it happened.
  created_at timestamptz not null,
  -- Empty: the caller could not be identified.
  project_id text not null,
  event text not null,
  actor_id text,
  resource_id text,
  -- Ids and values of the request.
  data jsonb not null,
  -- "ok", or the code of the error.
  outcome text not null,
  -- Attempts that the row stands for.
  count int not null,
  address text not null,
  forwarded_for text,
  user_agent text,
  request_id text not null,
  rpc text not null,
  protocol text not null
);
create index on :"audit_log" (created_at, id);
create index on :"audit_log" (project_id, created_at, id);

create or replace function pgquiver_keep_audit_log() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('pgquiver.audit_retention', true) = 'on' then
    return null;
  end if;
  raise exception 'The audit log is append-only: % is refused.', tg_op using errcode = 'insufficient_privilege';
end
$$;
create trigger keep before update or delete or truncate on :"audit_log"
  for each statement execute function pgquiver_keep_audit_log();

insert into :"migrations" (version, name) values (15, '015_audit');
