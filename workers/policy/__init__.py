"""The policy under training: what it learns from, by what losses, and what holds it."""
