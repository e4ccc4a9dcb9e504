"""The database inside the stack: readiness, roles, migrations."""
