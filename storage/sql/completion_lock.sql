-- Before answers and responses are written: wait for invalidations that are being made, so that the next statement sees them, and have
-- those that come wait until the rows are there. A gateway that is stopped in between must not hold up others.
select set_config('idle_in_transaction_session_timeout', '5s', true),
       pg_advisory_xact_lock_shared(hashtext('askonce.invalidations'))
