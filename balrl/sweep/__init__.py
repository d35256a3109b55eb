"""Many runs as one thing: what they are, where each stands, and who works on them."""
