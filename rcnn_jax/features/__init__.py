"""Pictures through a network whose weights others trained: features in one file."""
