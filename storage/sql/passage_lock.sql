-- Only one divides at a time, until this transaction ends; false where another does.
select pg_try_advisory_xact_lock(hashtext('askonce.passages'))
