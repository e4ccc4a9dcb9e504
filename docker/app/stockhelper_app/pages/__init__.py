"""The pages at `/`: the watchlist and one share's chart, for people; rendered here, without any script."""
