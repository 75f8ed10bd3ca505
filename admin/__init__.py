"""Pages, API and terminal. Only this package and app.py use Flask."""

#: Threads of the web server. At most half of them wait for results at once, so that pages still respond.
WEB_THREADS = 16

#: Threads that may wait for a client, in addition to those above: they send an export or read a large body.
EXPORTS_AT_ONCE = 4
UPLOADS_AT_ONCE = 4

#: The web server reads a body of up to this many bytes before a thread gets the request.
BUFFERED_BODY = 64 << 10
