"""Reports for readers: lesion candidates with their regions, an HTML page for each scan and one for a group."""
