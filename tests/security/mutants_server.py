"""Controls of the web server against slow clients, each taken out."""

from mutation import Mutant

#: An application thread answers the head at once and waits for the body itself, as gthread does.
BODY_IN_THREAD = """
async def read_request(self, first):
    pace = Pace()
    body = Body(first + await self.read_head(), lambda size: self.run_in_loop(self.receive(size, pace)))
    request, self.awaits_continue = Request(self.worker.cfg, body, self.addresses.client), False
    body.is_complete, body.is_upload = not body_length(request), bool(body_length(request))
    return request, body
Connection.read_request = read_request
Body.end = lambda self: None
"""

MUTANTS = [
    Mutant(
        "no thread waits for a small body",
        "slow_clients hundreds",
        "admin/server/connection.py",
        BODY_IN_THREAD,
    ),
    Mutant(
        "the oldest connection makes room for a new one",
        "slow_clients hundreds",
        "admin/server/worker.py",
        "WebWorker.close_oldest = lambda self: None",
    ),
    Mutant(
        "a head has a deadline",
        "slow_clients byte_by_byte_is_refused and head",
        instead=(
            (
                "admin/server/connection.py",
                "timeout(pace.HEAD_SECONDS):\n                return",
                "timeout(60):\n                return",
            ),
        ),
    ),
    Mutant(
        "a body has a minimum rate",
        "slow_clients byte_by_byte_is_refused and body",
        "admin/server/pace.py",
        "Pace.count = lambda self, size, waited: None",
    ),
    Mutant(
        "a silent connection is closed",
        "slow_clients silent",
        instead=(("admin/server/connection.py", "patience = pace.HEAD_SECONDS", "patience = 60.0"),),
    ),
    Mutant(
        "an unread response is cut off",
        "slow_clients unread_exports",
        "admin/server/pace.py",
        "Pace.count = lambda self, size, waited: None",
    ),
    Mutant(
        "a response has a minimum rate",
        "slow_clients read_too_slowly",
        "admin/server/pace.py",
        """
def count(self, size, waited):
    self.seconds = STALL_SECONDS if size else self.seconds - waited
    if self.seconds <= 0:
        raise SlowClient("fewer than")
Pace.count = count
""",
    ),
    Mutant(
        "four exports at once",
        "slow_clients refused_while_four",
        "admin/pages/downloads.py",
        "exports = BoundedSemaphore(100)",
    ),
    Mutant(
        "an export gives its place back",
        "slow_clients refused_while_four",
        instead=(
            (
                "admin/pages/downloads.py",
                "    response.call_on_close(weakref.finalize(response, exports.release))\n",
                "",
            ),
        ),
    ),
    Mutant(
        "an export has a deadline",
        "slow_clients ends_at_its_deadline",
        "admin/pages/downloads.py",
        "until_deadline = lambda pages: pages",
    ),
    Mutant(
        "four uploads at once",
        "slow_clients stalled_uploads",
        "admin/server/body.py",
        "uploads = BoundedSemaphore(100)",
    ),
    Mutant(
        "an upload gives its place back",
        "slow_clients stalled_uploads",
        "admin/server/body.py",
        "Body.end = lambda self: None",
    ),
    Mutant(
        "an anonymous body is small",
        "slow_clients before_its_body and public",
        instead=(("admin/auth/access.py", "request.max_content_length = BUFFERED_BODY", "pass"),),
    ),
    Mutant(
        "an anonymous body has a length",
        "slow_clients before_its_body and unknown",
        instead=(("admin/auth/access.py", 'and "Transfer-Encoding" in request.headers', "and False"),),
    ),
    Mutant(
        "an upload is refused before 100 Continue",
        "slow_clients request_is_refused_before_its_body",
        "admin/server/exchange.py",
        "Exchange.send = lambda self, data: self.sendall(data)",
    ),
    Mutant(
        "the role counts before the body is read",
        "slow_clients low_role_form",
        instead=(
            (
                "admin/auth/access.py",
                "        reject_other_sites()\n",
                "        reject_other_sites()\n        csrf.protect()\n",
            ),
        ),
    ),
    Mutant(
        "the server software is not named",
        "slow_clients server_software",
        "admin/server/exchange.py",
        "del Response.default_headers",
    ),
    Mutant(
        "half-sent requests do not delay the end",
        "slow_clients delay_the_end",
        "admin/server/worker.py",
        "WebWorker.finish_requests = lambda self: asyncio.sleep(60)",
    ),
    Mutant(
        "Flask's debug mode is refused",
        "config debug",
        "config.py",
        "parse_debug = lambda value: None",
        instead=(("config.py", 'read.parsed("FLASK_DEBUG", "0", parse_debug)', "pass"),),
    ),
]
