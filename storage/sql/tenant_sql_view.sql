-- Let tenants read a view that was made just now.
select askonce.show(format('api.%I', $1::text)::regclass)
