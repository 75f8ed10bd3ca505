"""Controls of hosts, proxies, files and limits, each taken out once."""

from mutation import Mutant

MUTANTS = [
    Mutant(
        "a foreign Host is rejected",
        "hosts foreign_host",
        "admin/auth/hosts.py",
        "has_trusted_host = lambda: True",
    ),
    Mutant(
        "a foreign Host gets no reasons from /readyz",
        "hosts probes",
        instead=(("admin/auth/access.py", "if not has_trusted_host() or any(", "if any("),),
    ),
    Mutant(
        "probes answer any Host",
        "hosts probes",
        "admin/auth/hosts.py",
        "PROBE_PATHS = ()",
    ),
    Mutant(
        "forwarded headers of a peer on this machine are not believed",
        "hosts without_trusted_proxies",
        "gunicorn.conf.py",
        'forwarded_allow_ips = "*"',
    ),
    Mutant(
        "the client's address comes from the last trusted proxy",
        "hosts last_trusted_proxy or throttled",
        instead=(("admin/auth/hosts.py", "x_for=count", "x_for=3"),),
    ),
    Mutant(
        "HSTS includes subdomains",
        "hosts last_trusted_proxy",
        "admin/auth/security_headers.py",
        'HTTPS_ONLY = "max-age=31536000"',
    ),
    Mutant(
        "a new database is private before SQLite opens it",
        "file_rights new_database",
        instead=(
            ("engine/private_files.py", "create_private(path)\n    for", "path.touch()\n    for"),
            ("engine/private_files.py", "make_private(path.with_name", "str(path.with_name"),
        ),
    ),
    Mutant(
        "an existing database and its side files become private",
        "file_rights existing_database",
        "engine/private_files.py",
        'SQLITE_ENDINGS = ("",)',
    ),
    Mutant(
        "a database file is never opened beside SQLite",
        "file_rights locks",
        "engine/private_files.py",
        "create_private = lambda path: path.open('a').close()",
    ),
    Mutant(
        "the web server and commands close the data folder",
        "file_rights every_program",
        instead=(("app.py", "    restrict_folders(settings.data_dir)\n", ""),),
    ),
    Mutant(
        "a consumer closes the data folder",
        "file_rights every_program",
        instead=(("engine/worker/consumer.py", "        restrict_folders(settings.data_dir)\n", ""),),
    ),
    Mutant(
        "a shared folder stays open",
        "file_rights must_stay_open and shared",
        "engine/private_files.py",
        "is_shared_folder = lambda mode: False",
    ),
    Mutant(
        "a key that others may open stops the start",
        "file_rights open_key",
        instead=(("config.py", "if mode & 0o077:", "if False:"),),
    ),
]
