"""What holds for all tests."""

from hypothesis import settings

# on a busy machine any example may take longer than the default of 200 ms
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
