"""Reading pictures, videos and streams."""
