"""What the pages of the results show, each section as a dictionary of figures and tables for its template."""
