-- What came of preparing and testing tenants' SQL on this server.
update askonce.tenant_sql
set tested = $1 || '/' || current_setting('server_version_num'), refused = $2, changed_at = clock_timestamp()
