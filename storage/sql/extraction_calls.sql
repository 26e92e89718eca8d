-- Calls of a run with their records as JSON, committed after $2, in that order.
select c.*, c.pass as pass_number, coalesce(found.records, '[]') as records
from askonce.chunk_calls c
left join lateral (
  select json_agg(json_build_object(
    'name', x.class, 'text', x.text, 'attributes', x.attributes, 'start', x.start_pos, 'end', x.end_pos,
    'quote', x.quote, 'alignment', x.alignment, 'group', x.group_index, 'fits', x.fits, 'kept', x.kept
  ) order by x.ord) as records
  from askonce.extractions x
  where x.run_id = c.run_id and x.chunk = c.chunk and x.pass = c.pass and x.attempt = c.attempt
) as found on true
where c.run_id = $1 and c.serial > $2
order by c.serial
