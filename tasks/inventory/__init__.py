"""What `gameday init` looks at, one file a technology. Nothing is changed anywhere; each question has a bound."""
