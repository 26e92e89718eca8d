-- A tenant's document is not wanted any more, nor what was extracted from it.
delete from askonce.documents where id = $1 and tenant = $2 returning id
