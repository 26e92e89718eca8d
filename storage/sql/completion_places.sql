-- Whose answers and responses, of which models, there are. From one to the next by the index, past all the rows between.
with recursive kept as (
  (select scope, model from askonce.completions order by scope, model limit 1)
  union all
  select further.scope, further.model
  from kept cross join lateral (
    select c.scope, c.model from askonce.completions c
    where (c.scope, c.model) > (kept.scope, kept.model) order by c.scope, c.model limit 1
  ) further
), given as (
  (select scope, model from askonce.responses order by scope, model limit 1)
  union all
  select further.scope, further.model
  from given cross join lateral (
    select r.scope, r.model from askonce.responses r
    where (r.scope, r.model) > (given.scope, given.model) order by r.scope, r.model limit 1
  ) further
)
select scope, model from kept union select scope, model from given
