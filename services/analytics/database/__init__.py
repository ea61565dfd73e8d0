"""PostgreSQL: its connections and migrations."""
