"""Simulated raters with a hidden taste, who teach a running service."""
