"""Controls of secret arguments, and of text in logs and terminals."""

from mutation import Mutant

ARGUMENTS, TEXTS, SEALED = "engine/secret_arguments.py", "engine/secret_texts.py", "engine/queues/sealed_arguments.py"
NOWHERE = "secret_arguments nowhere"

MUTANTS = [
    Mutant("a secret name is recognised", NOWHERE, ARGUMENTS, "is_secret_name = lambda name: False"),
    Mutant(
        "a secret by position is recognised",
        NOWHERE,
        ARGUMENTS,
        "SecretParameters.has_position = lambda self, position: False",
    ),
    Mutant(
        "a declared secret is masked by name",
        NOWHERE,
        ARGUMENTS,
        "SecretParameters.has_name = lambda self, name: is_secret_name(name)",
    ),
    Mutant(
        "a secret in a nested dictionary is masked",
        NOWHERE,
        instead=((ARGUMENTS, "isinstance(key, str) and is_secret_name(key)", "not path and is_secret_name(key)"),),
    ),
    Mutant("errors and results are masked", NOWHERE, TEXTS, "mask_text = lambda text: text"),
    Mutant(
        "a stored text is masked",
        NOWHERE,
        instead=(("engine/text.py", "text = mask_text(text)", "pass"),),
    ),
    Mutant(
        "a recorded result is masked",
        "secret_arguments nowhere and succeeds",
        "engine/queues/execution.py",
        "is_hiding = lambda: False",
    ),
    Mutant(
        "a log line is masked",
        "secret_arguments consumers_log",
        "engine/log_format.py",
        "mask_text = lambda text: text",
    ),
    Mutant(
        "a secret is masked as repr, JSON and addresses write it",
        "secret_arguments however",
        TEXTS,
        "WRITERS = ()",
    ),
    Mutant(
        "the message of a follower is sealed",
        "secret_arguments every_path",
        SEALED,
        "replace_followers = lambda message, replace: {}",
    ),
    Mutant(
        "a secret that a result hands on is sealed",
        "secret_arguments handed_on",
        ARGUMENTS,
        "is_hiding = lambda: False",
    ),
    Mutant(
        "sealed values belong to one run",
        "secret_arguments belong_to_one_run",
        SEALED,
        "seal_context = lambda task, run_id: b''",
    ),
    Mutant(
        "sealed values are deleted with their run",
        "secret_arguments deleted_with",
        instead=(("migrations/0019_sealed_arguments.py", " REFERENCES dewey_runs ON DELETE CASCADE", ""),),
    ),
    Mutant(
        "a refused value is not repeated",
        "secret_arguments refused_value",
        "engine/control/arguments.py",
        "MASK, mask_names = 'mk7', lambda value: value",
    ),
    Mutant(
        "a form does not send a secret back",
        "secret_arguments refused_value",
        "admin/forms/fields.py",
        "Field.shown = lambda self, text: text",
    ),
    Mutant(
        "the audit masks by the task's rule",
        NOWHERE,
        "admin/operations/tasks.py",
        """
def mask_arguments(queues, task, args, kwargs):
    from engine.secret_arguments import Call
    return Call(args, kwargs, [])
""",
    ),
    Mutant(
        "the audit masks every secret name",
        "actions masks_secrets",
        "admin/audit_log.py",
        "mask_names = lambda value: value",
    ),
    Mutant(
        "a log message is one line",
        "log_injection message_is_one_line and not formatter2",
        "engine/log_format.py",
        "escape_controls = lambda text: text",
    ),
    Mutant(
        "a traceback has no line of an exception's text",
        "log_injection traceback and not group",
        "engine/log_format.py",
        """
def traceback_lines(parts):
    for part in parts:
        yield from map(escape_controls, part.removesuffix("\\n").split("\\n"))
""",
    ),
    Mutant(
        "the terminal shows escapes",
        "log_injection terminal_obeys",
        "admin/cli/output.py",
        "escape_controls = lambda text: text",
    ),
    Mutant(
        "JSON in the terminal has no C1 control character",
        "log_injection terminal_obeys",
        "admin/cli/output.py",
        "json_escape = lambda match: match[0]",
    ),
]
