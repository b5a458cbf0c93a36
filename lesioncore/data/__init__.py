"""Images, their orientation, slices on a prior's grid, and files."""
