"""The checks, one a file: a file `db_password.py` holds the check `db.password`, and is found by lying here."""
