"""Summary: the figures of a dashboard's first page, read once for all who watch them."""
