"""Speed and memory side by side with other projects, and the last results."""
