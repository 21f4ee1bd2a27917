"""python -m bench: this code against what a careful user would otherwise write (bench/README.md)."""
