"""Layers run in folder order, fast first; hypothesis is seeded so that CI fails only for a reason."""

from hypothesis import settings

settings.register_profile("suite", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("suite")
