"""The search of a study: its journal, scheduling, sampling, and its ties to Ray and MLflow."""
