-- Say what a person thinks of a pair. $1 id, $2 label.
update askonce.semantic_trials set label = $2 where id = $1 and source_key is not null returning id
