"""What a run leaves behind for people: a summary and pictures."""
