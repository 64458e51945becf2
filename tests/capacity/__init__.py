"""`make capacity`: what a larger platform costs, measured size by size, and lines that foretell another."""
