-- Take turns with whoever makes policies and grants (`storage/tenant_sql/preparing.py`): a view locks what it is made of,
-- and a policy its table, so that each could wait for the other for ever.
select pg_advisory_xact_lock(hashtext('askonce.tenant_sql'))
