"""Search-space files: from their YAML to a checked space, and a schema of them for editors."""
