-- Who answered instead of whom, what it cost, and what keeping answers has saved.

alter table askonce.completions add column fallback text not null default '';
comment on column askonce.completions.fallback is 'Who should have answered, where another one did: a kind of backend, or a model.';
comment on column askonce.completions.backend is 'The replica that answered.';
comment on column askonce.completions.cost_micro_usd is 'What the answer cost when it was made, in millionths of a US dollar; 0 without prices.';

create table askonce.usage (
  minute            timestamptz not null,
  tenant            text not null,
  model             text not null,
  kind              text not null,
  cache             text not null check (cache in ('hit', 'coalesced', 'generated')),
  requests          bigint not null,
  prompt_tokens     bigint not null,
  completion_tokens bigint not null,
  cost_micro_usd    bigint not null,
  primary key (minute, tenant, model, kind, cache)
);
comment on table askonce.usage is 'What was answered, by the minute: of hits and coalesced ones, tokens and cost are those that were saved.';
comment on column askonce.usage.requests is 'For embeddings, inputs.';
