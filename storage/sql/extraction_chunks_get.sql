-- The parts of a document, as a run was given them.
select ordinal, start_pos, end_pos, sha256 from askonce.chunks where document_id = $1 and chunker = $2 order by ordinal
