"""The worker process of gunicorn: an event loop talks to the clients, threads run the application.

A slow client therefore occupies no thread. gunicorn parses requests and formats responses.
"""
