"""What a person looks at: tables, pictures, report.html."""
