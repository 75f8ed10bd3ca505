"""How people see and steer: pages, API, command line. Flask lives only here and in app.py."""

#: Threads of the web server. At most half of them may wait for a result at once, so that pages go on answering.
WEB_THREADS = 16
