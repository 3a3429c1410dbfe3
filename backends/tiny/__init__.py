"""The built-in pair: two tiny models of the article's two architectures, and what makes them.

They ship as `tiny-qwen/` and `tiny-chatglm/` so that the panel can be tried offline. They are no
measure of the real models. Serving never imports this package: it only reads those folders.
"""
