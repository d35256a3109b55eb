"""What is seen of a run: its records, its display, its instruments, its watchdog."""
