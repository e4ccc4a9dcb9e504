"""The stock assistant's service: what runs inside the container, HTTP in front of PostgreSQL."""

__version__ = "0.1.0"
