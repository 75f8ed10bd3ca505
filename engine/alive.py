"""`python -m engine.alive light`: exit code 0 when a consumer of that queue, on this host, beat within the last lease;
`python -m engine.alive watch`: when one that watches did within the last minute.

The health check of a container. That of a worker is two round trips to the broker, without the database.
"""

import sys

from engine.worker.healthcheck import check

if __name__ == "__main__":
    sys.exit(check(sys.argv[1]))
