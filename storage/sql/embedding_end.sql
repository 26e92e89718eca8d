-- Others may embed what waits.
select pg_advisory_unlock(hashtext('askonce.embedding'))
