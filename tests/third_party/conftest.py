"""A stranger's plugin has its own tests; `tests/test_third_party.py` installs it and runs them."""

collect_ignore = ["zoo_toy"]
