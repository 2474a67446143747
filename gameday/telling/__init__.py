"""Who is told what, and who is not."""
