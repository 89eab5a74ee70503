"""Extracts patches from published papers: PubMed queries or PDFs -> images -> tiles."""
