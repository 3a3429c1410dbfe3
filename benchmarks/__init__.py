"""What the app costs and withstands, measured on the real thing; not part of the app."""
