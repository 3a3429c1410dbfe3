"""Rating sessions: who rates what, in which order, on which side; and what their raters may know.

The panel asks for the next trial of a rater; the operator's page makes sessions, pauses and closes
them.
"""
