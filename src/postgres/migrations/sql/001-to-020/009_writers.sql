-- Expands.
-- Every transaction that writes holds a lock on this table, which stays empty. A migration that contracts the tables,
-- so that processes of the versions before must not write any more, renames it to the next number: see
-- guardWrites in src/postgres/transaction.ts, and CONTRIBUTING.md.
create table :"writers_1" ();

-- SHA-256 of the file as it was applied, so that a file that is edited later is noticed.
alter table :"migrations" add column checksum text;

insert into :"migrations" (version, name) values (9, '009_writers');
