"""Components: their binary read into a checked plan, and what runs such a plan."""
