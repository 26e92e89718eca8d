-- title: Verifications
create or replace view api.verifications with (security_invoker = true) as
select encode(key, 'hex') as key, scope, model, outcome, compared, divergence, identity, duration_ms,
       origin_id, made_by, at
from askonce.verifications;

comment on column api.verifications.key is 'The answer that was asked for again, as in completions.';
comment on column api.verifications.scope is 'Where it is kept.';
comment on column api.verifications.model is 'Which model.';
comment on column api.verifications.outcome is 'identical or diverged.';
comment on column api.verifications.compared is 'What was compared.';
comment on column api.verifications.divergence is 'Where the two part, with some of either''s text.';
comment on column api.verifications.identity is 'Who answered this time.';
comment on column api.verifications.duration_ms is 'Milliseconds that it took.';
comment on column api.verifications.origin_id is 'Which answer: a key can get another one.';
comment on column api.verifications.made_by is 'The id of the API key that wanted to know; empty without keys.';
comment on column api.verifications.at is 'When.';
