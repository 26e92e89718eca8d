-- A tenant's collection is not wanted any more. Its documents stay.
delete from askonce.collections where id = $1 and tenant = $2 returning id
