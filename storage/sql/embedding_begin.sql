-- Whether this session may embed what waits: nobody else does.
select pg_try_advisory_lock(hashtext('askonce.embedding'))
