"""Container health check: `python -m engine.alive light` or `python -m engine.alive watch`.

The exit code is 0 if a consumer of that queue on this host sent a heartbeat within one lease. For `watch` the limit
is one minute. The check of a consumer makes two round trips to the broker and does not need the database.
"""

import sys

from engine.worker.healthcheck import check

if __name__ == "__main__":
    sys.exit(check(sys.argv[1]))
