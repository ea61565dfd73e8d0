"""Analytics: the ledger of every attempt, and reports from it."""
