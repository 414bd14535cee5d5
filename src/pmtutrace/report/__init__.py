"""What recordings say, in words and numbers."""
