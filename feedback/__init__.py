"""What people said: ratings and comparisons of served completions, kept in Redis."""
