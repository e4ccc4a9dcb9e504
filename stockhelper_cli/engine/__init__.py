"""The container engine: what may be asked of it, and the one module that talks to it."""
