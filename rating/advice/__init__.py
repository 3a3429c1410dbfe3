"""Which model to take, from what was measured here and from the ratings.

`candidates` gathers what is known of each model, `standing` says how they stand to each other,
`choice` which one to take, `situations` what holds in each of the article's; `reasons`, `texts` and
`report` put it into words. Measures and rates nothing.
"""
