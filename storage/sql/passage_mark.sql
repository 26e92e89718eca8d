-- A document is divided, in this way. No row when it was by somebody else meanwhile, or is gone.
update askonce.documents set passages = $2 where id = $1 and passages = '' returning tenant
