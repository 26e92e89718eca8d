-- Others may sweep again.
select pg_advisory_unlock(hashtext('askonce.sweep'))
