"""The memory of a study: its events, the journal that stores them, and the state they lead to."""
