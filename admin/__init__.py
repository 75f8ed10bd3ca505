"""Pages, API and terminal. Only this package and app.py use Flask."""

#: Threads of the web server. At most half of them wait for results at once, so that pages still respond.
WEB_THREADS = 16
