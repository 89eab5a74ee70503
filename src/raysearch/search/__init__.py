"""Space, plan, journal, sampler, rungs, engine, tracking."""
