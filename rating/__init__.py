"""The rating domain: trials, blindness, assignment, what the scores say.

Knows no Gradio, no SQL and no torch: pages are in `ui`, tables in `db`, models in `backends`.
"""
