"""Measurements that anyone can repeat; `python -m bench.NAME --help` says how.

They run on the settings of the tests, so neither a developer's `.env` nor its database is touched.
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()
