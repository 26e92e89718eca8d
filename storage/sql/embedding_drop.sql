-- What is not embedded after all waits no longer.
delete from askonce.embedding_queue where id = any ($1::bigint[])
