"""`dewey operator` and `dewey token`."""

import sys

import click

from admin.auth.identity import ROLES
from admin.cli.output import Group, json_option, local_admin, print_lines, print_listing
from admin.operations.operators import operators_with_sign_ins
from admin.operations.registry import execute
from admin.operations.tokens import all_tokens, token_state
from engine.models import as_json as row_as_json
from models import Token

role_option = click.option("--role", required=True, type=click.Choice(ROLES))
email_argument = click.argument("email")
stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)


def read_password(password_stdin: bool) -> str | None:
    return sys.stdin.readline().rstrip("\r\n") if password_stdin else None


@click.group(cls=Group)
def operator() -> None:
    """Manage users of the console."""


@operator.command("create")
@email_argument
@role_option
@stdin_option
def create_operator(email: str, role: str, password_stdin: bool) -> None:
    """Create a user. Without --password-stdin, the last line printed is a new password."""
    password = execute(
        local_admin(), "operators.create", email=email, role=role, password=read_password(password_stdin)
    )
    if password_stdin:
        print_lines(f"Created {email} ({role}).")
    else:
        print_lines(f"Created {email} ({role}). Password (shown once):", password)


@operator.command("list")
@json_option
def list_operators(as_json: bool) -> None:
    """List users, disabled ones included."""
    operators: list[dict[str, object]] = [
        row_as_json(operator, "password_hash")
        | {"sessions": operator.sessions, "seen_at": operator.seen_at and operator.seen_at.isoformat()}
        for operator in operators_with_sign_ins()
    ]
    titles = ("email", "role", "sessions", "seen_at", "created_at", "disabled_at")
    print_listing(operators, as_json, titles, [[row[title] for title in titles] for row in operators])


@operator.command("role")
@email_argument
@click.argument("role", type=click.Choice(ROLES))
def change_role(email: str, role: str) -> None:
    """Change a user's role. The last admin keeps the role."""
    execute(local_admin(), "operators.role", email=email, role=role)
    print_lines(f"{email} now has the role {role}.")


@operator.command("disable")
@email_argument
def disable(email: str) -> None:
    """Disable a user and end all sessions. The last admin cannot be disabled."""
    execute(local_admin(), "operators.disable", email=email)
    print_lines(f"{email} disabled. All sessions signed out.")


@operator.command("enable")
@email_argument
def enable(email: str) -> None:
    """Enable a disabled user."""
    execute(local_admin(), "operators.enable", email=email)
    print_lines(f"{email} enabled.")


@operator.command("password")
@email_argument
@stdin_option
def renew_password(email: str, password_stdin: bool) -> None:
    """Replace a user's password and end all sessions. Without --password-stdin, the last line is the new one."""
    password = execute(local_admin(), "operators.password", email=email, password=read_password(password_stdin))
    if password_stdin:
        print_lines(f"Password of {email} changed. All sessions signed out.")
    else:
        print_lines(f"New password for {email} (shown once):", password)


@click.group(cls=Group)
def token() -> None:
    """Manage bearer tokens for programs."""


@token.command("create")
@click.argument("name")
@role_option
@click.option("--days", type=int, help="Days until it expires. Without this option it does not expire.")
def create_token(name: str, role: str, days: int | None) -> None:
    """Create a token. The last line printed is the token, which is shown once."""
    token = execute(local_admin(), "tokens.create", name=name, role=role, days=days)
    print_lines(f"Created token {name} ({role}). Token (shown once):", token)


@token.command("list")
@json_option
def list_tokens(as_json: bool) -> None:
    """List tokens, newest first, without their secrets."""
    newest_first = all_tokens(Token.created_at.desc(), Token.id.desc())
    tokens = [row_as_json(token, "digest") | {"state": token_state(token)} for token in newest_first]
    titles = ("name", "role", "state", "created_at", "expires_at", "used_at")
    print_listing(tokens, as_json, titles, [[row[title] for title in titles] for row in tokens])


@token.command("revoke")
@click.argument("name")
def revoke_token(name: str) -> None:
    """Revoke a token."""
    execute(local_admin(), "tokens.revoke", name=name)
    print_lines(f"Token {name} revoked.")


COMMANDS = (operator, token)
