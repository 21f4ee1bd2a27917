"""The pocket world: endless news whose truth is known (things), its words (phrases), what everybody
knows (background), who can read it back (oracle), and what a pocket model learns from it (lessons)."""
