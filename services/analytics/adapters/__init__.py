"""Where the ports meet the world."""
