-- Expands.
-- Nullable columns and constant defaults: nothing is rewritten. Older versions read and write beside this one; they do
-- not know who may read a row, so no store should restrict its readers before all processes run this version.
alter table :"vector_stores" add column if not exists restricts_readers boolean not null default false;

-- Rights for the holders of a client certificate: a row like that of a key, whose digest is that of the certificate's
-- subject. To older versions it is a key that nobody presents.
alter table :"api_keys" add column if not exists certificate_subject text;

insert into :"migrations" (version, name) values (13, '013_access');
