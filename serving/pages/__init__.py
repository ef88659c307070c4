"""Pages of serving: signing in, the chat, and what they need of the server."""

from pathlib import Path

FOLDER = Path(__file__).parent
