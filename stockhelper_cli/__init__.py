"""stockhelper: from a clone to a healthy, migrated, hardened stock-assistant stack, and keeping it that way."""

__version__ = "0.1.0"
