"""What each width costs, and how to show it."""
