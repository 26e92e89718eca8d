-- Verifications of answers that are kept no more. A young one may be of an answer that is still being written.
delete from askonce.verifications v
where v.at < clock_timestamp() - interval '1 day'
  and not exists (select from askonce.completions c where c.key = v.key and c.origin_id = v.origin_id)
