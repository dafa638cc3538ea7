"""Northwestern-UCLA Multiview Action 3D."""
