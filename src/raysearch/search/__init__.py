"""Space, plan, journal and study; who proposes, who decides, who runs, who keeps track."""
