"""The Gradio pages; the only place that knows Gradio.

What a trial is and may show comes from `rating`; here it is laid out, in Chinese and English.
"""
