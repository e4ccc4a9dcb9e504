"""Looking at everything that the stack needs, and naming what is wrong with it: one small class a check."""
