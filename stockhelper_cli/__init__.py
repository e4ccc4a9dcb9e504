"""stockhelper: from a clone to a healthy, migrated, hardened stock-assistant stack, and keeping it that way."""
