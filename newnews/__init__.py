"""The study: news -> replay elements -> weight update -> answers -> report."""
