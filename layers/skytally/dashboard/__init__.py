"""What the page and `dashboard/data` show."""
