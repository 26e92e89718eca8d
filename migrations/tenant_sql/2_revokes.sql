-- What everybody may do in Postgres, and tenants may not: it is taken from PUBLIC and given to the group that the setting
-- `askonce.trusted` names. Which functions that are follows from the catalog: the volatile ones, and of the stable ones
-- those that tell of the server, of other sessions or of roles; both less those that are known to do no harm.
do $$
declare
  trusted constant name := current_setting('askonce.trusted');
  item record;
begin
  for item in
    select p.oid::regprocedure as function
    from pg_proc p
    where p.pronamespace = 'pg_catalog'::regnamespace
      and exists (
        select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where a.grantee = 0 and a.privilege_type = 'EXECUTE'
      )
      and (
        p.provolatile = 'v' and p.proname not in (
          'array_sample', 'array_shuffle', 'clock_timestamp', 'gen_random_uuid', 'pg_advisory_unlock_all',
          'pg_is_in_recovery', 'random', 'random_normal', 'timeofday', 'uuidv4', 'uuidv7'
        )
        or p.provolatile = 's'
          and (
            p.proname ~ '^(pg_|txid_|inet_client_|inet_server_|fmgr_)' or p.proname ~ '_to_xml'
            or p.proname in ('current_setting', 'shobj_description', 'system_user', 'xml')
          )
          and p.proname not in (
            'pg_basetype', 'pg_char_to_encoding', 'pg_client_encoding', 'pg_collation_for', 'pg_collation_is_visible',
            'pg_column_compression', 'pg_column_is_updatable', 'pg_column_size', 'pg_conversion_is_visible',
            'pg_encoding_to_char', 'pg_function_is_visible', 'pg_get_constraintdef', 'pg_get_expr',
            'pg_get_function_arg_default', 'pg_get_function_arguments', 'pg_get_function_identity_arguments',
            'pg_get_function_result', 'pg_get_function_sqlbody', 'pg_get_indexdef', 'pg_get_keywords',
            'pg_get_partkeydef', 'pg_get_serial_sequence', 'pg_get_userbyid', 'pg_get_viewdef', 'pg_has_role',
            'pg_index_column_has_property', 'pg_index_has_property', 'pg_indexam_has_property', 'pg_input_error_info', 'pg_input_is_valid',
            'pg_is_other_temp_schema', 'pg_my_temp_schema', 'pg_opclass_is_visible', 'pg_operator_is_visible',
            'pg_opfamily_is_visible', 'pg_options_to_table', 'pg_relation_is_publishable', 'pg_relation_is_updatable',
            'pg_sequence_parameters', 'pg_statistics_obj_is_visible', 'pg_table_is_visible', 'pg_ts_config_is_visible',
            'pg_ts_dict_is_visible', 'pg_ts_parser_is_visible', 'pg_ts_template_is_visible', 'pg_type_is_visible',
            'pg_typeof'
          )
      )
  loop
    execute format('grant execute on function %s to %I', item.function, trusted);
    execute format('revoke execute on function %s from public', item.function);
  end loop;

  -- Of the catalogs and the views on them everybody keeps those that say what tables, types and functions are like. The
  -- rest tells of roles, sessions, settings, statistics and other databases.
  for item in
    select c.oid::regclass as relation
    from pg_class c
    where c.relnamespace = 'pg_catalog'::regnamespace and c.relkind in ('r', 'v')
      and exists (
        select from aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
        where a.grantee = 0 and a.privilege_type = 'SELECT'
      )
      and c.relname not in (
        'pg_aggregate', 'pg_am', 'pg_amop', 'pg_amproc', 'pg_attrdef', 'pg_attribute', 'pg_cast', 'pg_collation',
        'pg_constraint', 'pg_conversion', 'pg_depend', 'pg_description', 'pg_enum', 'pg_extension', 'pg_index',
        'pg_inherits', 'pg_language', 'pg_namespace', 'pg_opclass', 'pg_operator', 'pg_opfamily',
        'pg_partitioned_table', 'pg_proc', 'pg_range', 'pg_rewrite', 'pg_ts_config', 'pg_ts_config_map', 'pg_ts_dict',
        'pg_ts_parser', 'pg_ts_template', 'pg_type'
      )
  loop
    execute format('grant select on %s to %I', item.relation, trusted);
    execute format('revoke select on %s from public', item.relation);
  end loop;

  -- How many rows a table has tells of everybody's.
  execute (
    select format('grant select (%s) on pg_catalog.pg_class to public', string_agg(quote_ident(a.attname), ', '))
    from pg_attribute a
    where a.attrelid = 'pg_catalog.pg_class'::regclass and a.attnum > 0 and not a.attisdropped
      and a.attname not in ('relpages', 'reltuples', 'relallvisible', 'relallfrozen')
  );

  revoke update on pg_catalog.pg_settings from public;
  revoke usage on language plpgsql, sql from public;
  execute format('grant usage on language plpgsql, sql to %I', trusted);
end
$$;
