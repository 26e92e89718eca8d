-- Which rows tenants see, and which columns: those that the views of the schema `api` are made of. A policy stands beside
-- the one for everybody and narrows it; a table has its grants only together with its policy.
do $$
declare
  tenants constant name := askonce.role_of('group/tenants');
  item record;
begin
  execute format('revoke all on all tables in schema askonce from %I', tenants);
  execute format('revoke all on all tables in schema api from %I', tenants);

  for item in
    select * from (values
      ('completions', 'scope = any ((select askonce.asking_scopes())::text[])'),
      ('hits', 'exists (select from askonce.completions c where c.key = hits.key'
        ' and c.scope = any ((select askonce.asking_scopes())::text[]))'),
      ('verifications', 'scope = any ((select askonce.asking_scopes())::text[])'),
      ('semantic_trials', 'scope = any ((select askonce.asking_scopes())::text[])'),
      ('usage', 'tenant = (select askonce.asking_tenant())'),
      ('documents', 'tenant = (select askonce.asking_tenant())'),
      ('extraction_runs', 'tenant = (select askonce.asking_tenant())'),
      ('chunks', 'exists (select from askonce.documents d where d.id = document_id'
        ' and d.tenant = (select askonce.asking_tenant()))'),
      ('chunk_calls', 'exists (select from askonce.extraction_runs r where r.id = run_id'
        ' and r.tenant = (select askonce.asking_tenant()))'),
      ('extractions', 'exists (select from askonce.extraction_runs r where r.id = run_id'
        ' and r.tenant = (select askonce.asking_tenant()))'),
      ('passages', 'tenant = (select askonce.asking_tenant())'),
      ('collections', 'tenant = (select askonce.asking_tenant())'),
      ('collection_documents', 'exists (select from askonce.collections c where c.id = collection_id'
        ' and c.tenant = (select askonce.asking_tenant()))'),
      ('embeddings', 'scope = any ((select askonce.asking_scopes())::text[])'),
      ('embedding_models', 'true')
    ) as rules (name, is_theirs)
    where to_regclass(format('askonce.%I', rules.name)) is not null  -- vectors are where pgvector is
  loop
    -- Anew only when it is another rule: that takes a lock that all who read wait for.
    if not exists (
      select from pg_policy p
      where p.polrelid = format('askonce.%I', item.name)::regclass and p.polname = 'tenants'
        and obj_description(p.oid, 'pg_policy') = md5(tenants || item.is_theirs)
    ) then
      execute format('drop policy if exists tenants on askonce.%I', item.name);
      execute format(
        'create policy tenants on askonce.%I as restrictive for all to %I using (%s)', item.name, tenants, item.is_theirs
      );
      execute format('comment on policy tenants on askonce.%I is %L', item.name, md5(tenants || item.is_theirs));
    end if;
    execute (
      select format(
        'grant select (%s) on askonce.%I to %I', string_agg(distinct quote_ident(a.attname), ', '), item.name, tenants
      )
      from pg_depend d
      join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
      join pg_class v on v.oid = w.ev_class and v.relnamespace = 'api'::regnamespace
        and v.reloptions @> '{security_invoker=true}'
      join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
      where d.refclassid = 'pg_class'::regclass and d.refobjid = format('askonce.%I', item.name)::regclass
        and a.attnum > 0
    );
  end loop;

  execute format('grant usage on schema api to %I', tenants);
  for item in select c.oid from pg_class c where c.relnamespace = 'api'::regnamespace and c.relkind = 'v' loop
    perform askonce.show(item.oid);
  end loop;
end
$$;
