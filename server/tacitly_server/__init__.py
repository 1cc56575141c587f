"""The aggregation server: rounds, sums, the population ledger and its Flower deployment."""
