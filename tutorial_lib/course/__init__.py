"""What serves the course and not its mathematics: pictures, explorers, exercises, recipes."""
