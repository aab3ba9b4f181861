"""``make bench``: one table of medians and ratios, peers measured side by side in one process tree."""
