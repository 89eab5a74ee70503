"""Images: decoding image files and HDF5 rows to the pixels of patches, in shared memory."""
