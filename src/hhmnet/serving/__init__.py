"""A trained model behind HTTP: an API, and a page for the browser."""
