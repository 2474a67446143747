"""A first gameday.toml for a platform that nobody has described: what was seen -> guesses -> text.

Pure: seen.py is what tasks/inventory/ finds at servers, and nothing here asks any.
"""
