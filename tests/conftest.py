"""What holds for all tests."""

import signal

from hypothesis import settings

# on a busy machine any example may take longer than the default of 200 ms
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# a shell's background job ignores Ctrl-C, and so would all programs that tests start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
