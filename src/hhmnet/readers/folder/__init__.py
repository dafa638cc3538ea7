"""A folder of one's own skeletons."""
