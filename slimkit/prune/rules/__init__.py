"""What each op does with channels: one row an op type."""
