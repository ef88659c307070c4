"""What all pages share: templates, static files, headers, and who is looking."""
