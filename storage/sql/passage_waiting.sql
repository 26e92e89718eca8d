-- Whether any document waits to be divided into passages.
select exists (select from askonce.documents where passages = '')
