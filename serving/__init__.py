"""What we answer with: versions, engines, the gateway."""
