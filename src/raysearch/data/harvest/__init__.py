"""Patches out of published papers: PubMed ids or PDFs -> images -> tiles."""
