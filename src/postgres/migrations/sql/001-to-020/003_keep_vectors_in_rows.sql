-- Every search reads vectors, so they stay in the row while it fits a page (up to about 2,000 dimensions) and the text
-- makes room for them; longer ones, up to pgvector's 16,000, move out. MAIN says the former, and toast_tuple_target that
-- a row shorter than a page needs no shrinking at all. Measured on PostgreSQL 17 with pgvector 0.8.0, 2 cores, second
-- of two runs: binary COPY of 5,000 rows (4,000 with the longer text, 300 of 16,000 dimensions) and exact search of
-- them, warm, p50.
--                                      1,536, text of 300 B    1,536, text of 3,000 B    16,000, text of 300 B
--   external, pgvector's default         42,936/s  15.2 ms       14,224/s  14.3 ms         4,969/s  3.5 ms
--   external, toast_tuple_target         69,350/s   3.8 ms       16,987/s  19.8 ms         4,839/s  3.4 ms
--   plain, toast_tuple_target            71,298/s   3.7 ms       17,667/s   3.3 ms         row is too big
--   main                                 39,475/s   3.9 ms       15,936/s   4.1 ms         4,675/s  3.5 ms
--   main, toast_tuple_target             71,447/s   3.5 ms       16,316/s   4.3 ms         4,693/s  3.5 ms
-- MAIN compresses a vector only when it is too long for a page, and only one of mostly zeros shrinks: 300 rows of
-- 16,000 dimensions, 98 % of them zero, take 1.3 MB instead of 20, and a search of them 4.5 ms.
-- This comes after 002 because changing a column's type gives it back the type's own storage.
alter table :"embeddings" alter column :"embedding" set storage main, set (toast_tuple_target = 8160);

insert into :"migrations" (version, name) values (3, '003_keep_vectors_in_rows');
