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
]
