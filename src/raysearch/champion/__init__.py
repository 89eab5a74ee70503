"""champion."""
