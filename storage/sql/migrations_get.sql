-- What has been applied.
select number, name, sha256, applied_at from askonce.migrations order by number
