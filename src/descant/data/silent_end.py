"""Imported first by the fork server of worker processes: an interruption ends it, and them, at once and silently.

By Python's default each would print a traceback of what it was doing, an import or the reading of its task, around
the sentence with which the program that they work for ends. One that ignores interruptions (`nohup`) does so here too.
"""

import signal

if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `start_fork_server`
