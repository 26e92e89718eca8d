-- A tenant's document.
select * from askonce.documents where id = $1 and tenant = $2
