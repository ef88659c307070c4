"""The reward model: what it is, how it is trained and weighed, and whether it replaces the live one."""
