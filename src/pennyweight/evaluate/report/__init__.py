"""Output for people: tables, pictures, report.html."""
