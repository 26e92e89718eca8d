-- Responses whose time is over, whatever the policies say.
delete from askonce.responses where created_at < clock_timestamp() - make_interval(secs => $1)
