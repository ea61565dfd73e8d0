"""Reports: costs, performance and reliability, asked from the ledger."""
