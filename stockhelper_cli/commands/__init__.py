"""One file per verb: parse, call one use case, render."""
