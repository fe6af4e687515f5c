"""Where a mount meets the server: fetching, publishing, following, and what the credential allows."""
