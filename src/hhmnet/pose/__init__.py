"""Joints from video: frames → tracked persons → joints with confidence."""
