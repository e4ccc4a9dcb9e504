"""`make soak`: what runs for long and at random, with a seed and a time limit. It is not part of `make test`.

injector   stops and continues processes of a private engine, of its containers, and of commands
ledger     numbered rows that must survive whatever is done to their stack
"""
