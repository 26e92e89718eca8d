-- Whether this session may sweep: nobody else does.
select pg_try_advisory_lock(hashtext('askonce.sweep'))
