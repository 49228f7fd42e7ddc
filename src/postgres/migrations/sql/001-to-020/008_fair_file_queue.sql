-- Workers take the files that are due store by store, in turns: this finds the next store's first file at once.
create index on :"vector_store_files" (vector_store_id, place, due_at) where status = 'in_progress';

insert into :"migrations" (version, name) values (8, '008_fair_file_queue');
