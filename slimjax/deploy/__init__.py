"""Taking one width of a slimmable network away from the others."""
