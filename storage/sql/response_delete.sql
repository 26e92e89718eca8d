-- A tenant's response is not wanted any more.
delete from askonce.responses where id = $1 and tenant = $2 and ($3::text[] is null or model = any($3)) returning id
