-- A tenant's run is not wanted any more, nor its records.
delete from askonce.extraction_runs where id = $1 and tenant = $2 returning id
