"""What a cell is worth, and what it cost to find out."""
