-- title: Messages of prompts and answers, one row each
-- There is no order, so that joins with this view can use the indexes.
create or replace view api.messages with (security_invoker = true) as
select encode(c.key, 'hex') as key, c.scope, c.model, c.created_at, said.part, said.place, said.choice,
       askonce.text_of(said.message -> 'role') as role, askonce.words_of(said.message -> 'content') as content,
       said.message -> 'tool_calls' as tool_calls, said.message
from askonce.completions c
cross join lateral (
  select askonce.list_of(case c.kind when 'chat' then askonce.json_of(c.prompt) -> 'messages' end) as read,
         askonce.list_of(askonce.json_of(c.message)) as answered
) m
cross join lateral (
  select 'prompt' as part, r.place - 1 as place, null::integer as choice, r.message
  from jsonb_array_elements(m.read) with ordinality as r (message, place)
  union all
  select 'prompt', 0, null, jsonb_build_object('content', c.prompt_text)
  where c.kind = 'completion'
  union all
  select 'answer', case c.kind when 'chat' then jsonb_array_length(m.read) else 1 end, (a.message ->> 'index')::integer,
         jsonb_build_object('role', 'assistant') || a.message - 'index'
  from jsonb_array_elements(m.answered) as a (message)
) said
where c.kind <> 'embedding';

comment on column api.messages.key is 'The answer that it belongs to, as in completions.';
comment on column api.messages.scope is 'Where that is kept.';
comment on column api.messages.model is 'The model that answered.';
comment on column api.messages.created_at is 'When it answered.';
comment on column api.messages.part is 'prompt: the model read it; answer: the model said it.';
comment on column api.messages.place is 'Which message, from 0: those of the prompt come first, and choices stand beside each other.';
comment on column api.messages.choice is 'Which choice of the answer, from 0; null in the prompt.';
comment on column api.messages.role is 'system, user, assistant, tool … as the client said it; null for a prompt without roles.';
comment on column api.messages.content is 'Its text; parts of it are lines. NUL, which Postgres cannot hold, is written as U+2400.';
comment on column api.messages.tool_calls is 'What it calls, as JSON.';
comment on column api.messages.message is 'All of it, as JSON: images and what else it has.';
