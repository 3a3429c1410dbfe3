"""Measurements of models on this machine: run, kept, and read as the article's tables.

How one is measured is `backends.measure`'s. Here: `background` runs one in the app, `foreground`
one at the command line, `measurements` keeps what comes, `figures` says what it means, `report`
writes it down. Knows no page.
"""
