"""What ratings prove: paired differences, intervals, tests, agreement, bias, verdicts.

`figures` says what is found out; the other modules find it out, each from plain frames or arrays.
Knows no database and no page. Formulas and their sources are in `docs/statistics.md`.
"""
