-- Expands.
-- The words of texts in the shared table, so that searches by words need not split them again. A cache: a row may be missing, and
-- counts only while text_hash is that of the text, so a version that does not know the table may change and delete texts.
-- The texts of stores with a table of their own have a column for their words there.
create table :"words" (
  vector_store_id text not null,
  embedding_id text not null,
  -- Of the text and the text search configuration.
  text_hash bigint not null,
  text_words tsvector not null,
  primary key (vector_store_id, embedding_id)
);

insert into :"migrations" (version, name) values (25, '025_words');
