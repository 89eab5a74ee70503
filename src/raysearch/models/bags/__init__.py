"""Slides as bags: the features of their patches, from the files of other tools."""
