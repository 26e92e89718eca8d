-- Which cluster this is: its copies have the same.
select system_identifier::text as name from pg_control_system()
