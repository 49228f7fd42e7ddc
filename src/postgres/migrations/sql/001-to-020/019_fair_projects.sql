-- Expands.
-- Workers take the files that are due in turns of projects, and within a project in turns of its stores: this finds the
-- next project's next file at once. The index of 008 stays for the versions before.
create index on :"vector_store_files" (
  (case when position('/' in vector_store_id) = 0 then 'default' else split_part(vector_store_id, '/', 1) end),
  vector_store_id, place, due_at
) where status = 'in_progress';

insert into :"migrations" (version, name) values (19, '019_fair_projects');
