-- What statements of tenants might leave behind: the same before and after them.
select (select count(*) from pg_roles) as roles,
       (select count(*) from pg_largeobject_metadata) as large_objects,
       (select count(*) from pg_class) as relations,
       (select count(*) from pg_proc) as functions,
       (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
       (select count(*) from pg_replication_slots where slot_name <> 'askonce_standby') as slots,
       (select count(*) from pg_cursors where not name like '<%') as cursors,
       (select md5(string_agg(name || '=' || setting, ',' order by name)) from pg_settings
         where name not in ('search_path', 'statement_timeout', 'transaction_read_only', 'session_authorization',
                            'is_superuser', 'role')
           -- What pgvector's library brings when it is first used.
           and not (name like '%.%' and source = 'default')) as settings,
       (select count(*) from askonce.completions) as completions,
       (select count(*) from askonce.tenants) as tenants,
       (select count(*) from askonce.extractions) as extractions
