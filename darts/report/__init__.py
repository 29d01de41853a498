"""What people look at: text, pictures, one page."""
