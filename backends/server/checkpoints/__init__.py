"""What lies in a checkpoint folder: read, quantised, packed and written; knows no forward pass."""
