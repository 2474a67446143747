"""Nothing stays broken: what was done to a stack, and how it is undone, whatever dies."""
