"""Tenants' own SQL: a statement of a tenant in, its rows out; read only, as that tenant's role, within bounds."""
