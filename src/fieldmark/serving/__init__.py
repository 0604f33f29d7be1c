"""A server that answers for images over HTTP, for one or several runs and bundles."""
