FROM python:3.11.14-slim-bookworm

ENV PYTHONUNBUFFERED=1
WORKDIR /app

COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt

# The code belongs to root and is read-only for the program. Only `data` is writable.
COPY . .
RUN python -m compileall -q . \
    && ln -s /app/bin/dewey /usr/local/bin/dewey \
    && useradd --system --uid 10001 --no-create-home dewey \
    && install -d -o dewey -m 0700 data
USER 10001

# The version that the console shows, such as the output of `git describe --always`.
ARG DEWEY_VERSION=
ENV DEWEY_VERSION=$DEWEY_VERSION

EXPOSE 8000
CMD ["gunicorn", "-c", "gunicorn.conf.py", "app:create_app()"]
