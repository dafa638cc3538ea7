"""Annotation pickles of pyskl and MMAction2, read without running them."""
