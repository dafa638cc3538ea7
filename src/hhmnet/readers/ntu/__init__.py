"""NTU RGB+D 60 and 120 from raw ``.skeleton`` files."""
