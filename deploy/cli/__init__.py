"""The `thumbwheel` command: a module for each group of commands, and what they share."""
