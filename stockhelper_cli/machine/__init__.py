"""Making a machine ready: engine, .env, base images, private roots."""
