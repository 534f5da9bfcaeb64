"""What is done to images and what belongs to them, by role, inside the compiled step."""
