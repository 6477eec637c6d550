"""What makes the course, and no reader imports: runs, pages, tables, badges."""
