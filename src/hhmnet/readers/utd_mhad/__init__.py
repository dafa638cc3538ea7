"""UTD-MHAD from ``.mat`` files."""
