"""Tools that make data and forecasts trustworthy: invariants of stores, overlap, leaks."""
