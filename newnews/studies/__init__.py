"""Studies: from a grid of settings to cells, stages, a summary and a report."""
