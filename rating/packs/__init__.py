"""Answer packs: a whole prompt set answered ahead, so that raters score at once, without a model.

`pack` says what one is, `pack_file` reads and writes its file, `generating` has models answer,
`store` keeps packs in the database, `replay` gives their answers again. Nothing here knows a page.
"""
