"""How the miniature and its data were made."""
