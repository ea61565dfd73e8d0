"""The router: picks provider and model, survives failures, accounts for every token."""
