-- The group that has what was taken from everybody.
select askonce.role_of('group/trusted')
