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
    Mutant(
        "requests are limited",
        "limits api_rate",
        instead=(("admin/auth/access.py", "        count_request(actor)\n", ""),),
    ),
    Mutant(
        "a program cannot pass off its requests as refreshes of a page",
        "limits refreshes",
        instead=(("admin/auth/rate_limits.py", 'actor.kind == "operator" and request.blueprint == "pages" and ', ""),),
    ),
    Mutant(
        "a page's own refreshes do not count",
        "limits refreshes",
        instead=(("admin/auth/rate_limits.py", "and is_auto_refresh()", "and False"),),
    ),
    Mutant(
        "passwords that are being checked count",
        "limits at_once",
        instead=(("admin/auth/rate_limits.py", "checking.update(windows)", "pass"),),
    ),
    Mutant(
        "guesses at one's own password are limited",
        "limits ones_own_password",
        instead=(
            ("admin/operations/account.py", "verify_limited(me.email, old,", "rate_limits.verify_password(old,"),
            (
                "admin/operations/account.py",
                "from admin.auth.rate_limits import verify_limited",
                "from admin.auth import rate_limits",
            ),
        ),
    ),
    Mutant(
        "equal refusals of a minute are one entry",
        "limits refused_calls",
        "admin/auth/refusals.py",
        "WINDOW_SECONDS = 0",
    ),
    Mutant(
        "the count of refusals is written",
        "limits refused_calls or server_ends",
        "admin/auth/refusals.py",
        "take_windows = lambda as_of, of_all: []",
    ),
    Mutant(
        "a text has a limit",
        "limits every_text or a_reason",
        instead=(("admin/operations/arguments.py", "if len(value) > MAX_TEXT:", "if False:"),),
    ),
    Mutant(
        "an entry of the audit log is bounded",
        "limits bounded",
        "admin/audit_log.py",
        "shorten = lambda facts: facts",
    ),
    Mutant(
        "a cursor is within the years of a datetime",
        "limits cursor and sqlite",
        instead=(("engine/search/pagination.py", "(ValueError, OverflowError)", "ValueError"),),
    ),
    Mutant(
        "a cursor's id is a number",
        "limits cursor",
        "engine/search/pagination.py",
        "parse_row_id = str",
    ),
    Mutant(
        "a number in an address fits into 64 bits",
        "limits no_row_can_have",
        instead=(("app.py", '    app.url_map.converters["int"] = RowNumber\n', ""),),
    ),
    Mutant(
        "a cursor of dead runs is a time",
        "limits cursor and sqlite",
        "admin/operations/dead_runs.py",
        "parse_timestamp = float",
    ),
    Mutant(
        "a search has a limit of words",
        "limits search_is_answered",
        instead=(("admin/search/run_query.py", "> MAX_VALUES:", "> 10**9:"),),
    ),
    Mutant(
        "alternatives of a search do not nest",
        "limits search_is_answered and sqlite",
        "engine/search/filters.py",
        "from functools import reduce\nfrom operator import or_\nany_of = lambda conditions: reduce(or_, conditions)",
    ),
    Mutant(
        "a count adds up a limited number of ranges",
        "limits search_is_answered and sqlite",
        "engine/search/run_search.py",
        "MAX_COUNT_SCANS = 10**9",
    ),
    Mutant(
        "an export has a limit",
        "limits export",
        instead=(("admin/display/capped_pages.py", "left = self.most", "left = 10**9"),),
    ),
]
