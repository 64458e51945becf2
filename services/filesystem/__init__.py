"""The filesystem service: files and folders within the operator's roots."""
