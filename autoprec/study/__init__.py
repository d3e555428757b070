"""The search for the best plan under an accuracy bound."""
