"""Tasks: what a model is asked, and how its answer is judged."""
