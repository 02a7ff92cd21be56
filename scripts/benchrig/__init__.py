"""The benchmark: what a call costs, beside what it is measured against, in one run."""
