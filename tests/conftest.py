"""What all tests share."""

import signal

# A shell's background job has Ctrl-C ignored, and so have all processes that it starts: tests that
# send one to a child would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
