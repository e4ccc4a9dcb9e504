"""Observed state -> plan -> done: how a stack is brought to what its files say."""
