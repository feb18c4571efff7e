"""HTML reports: pages of one file that need no network."""
