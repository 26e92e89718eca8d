-- A tenant's run.
select * from askonce.extraction_runs where id = $1 and tenant = $2
