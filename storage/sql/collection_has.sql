-- Whether a tenant has this collection.
select id from askonce.collections where id = $1 and tenant = $2
