"""What can be read off codes, features and scores."""
