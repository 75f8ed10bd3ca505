"""Takes one mechanism after the other out of a copy of the program and shows that its tests fail, on both brokers:
`python tests/faults/mutants.py [word…]`. A mutant is Python that is appended to a module of the engine, or that stands
in the place of what is there.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

DELIVERIES = {"engine/redis_delivery.py": "RedisDelivery", "engine/sqlite_delivery.py": "SqliteDelivery"}


class Mutant(NamedTuple):
    mechanism: str
    test: str  # file, in this folder or the one above, and what selects in it
    module: str = ""  # or `delivery` for both
    code: str = ""  # `Delivery` stands for the class
    instead: tuple[tuple[str, str, str], ...] = ()  # files, what stands in them, and what then stands there


MUTANTS = [
    Mutant(
        "what a dead worker held is given back",
        "crash_points after_take",
        "engine/consumer.py",
        "Consumer.returned = lambda self, process, name: True",
    ),
    Mutant(
        "the reaper returns what a dead consumer held",
        "storms processes_are_killed and tree",
        "delivery",
        "Delivery.reap = lambda self, lease, most: []",
    ),
    Mutant(
        "taking is a sign of life",
        "frozen woken",
        instead=(
            ("engine/redis_scripts.py", "now - math.max(tonumber(at), took) > ", "now - tonumber(at) > "),
            ("engine/sqlite_delivery.py", "GROUP BY consumer HAVING max(held_at) <= ?2", "GROUP BY consumer"),
        ),
    ),
    Mutant(
        "after an outage the reaper waits a round",
        "frozen slept",
        instead=(
            (
                "engine/redis_scripts.py",
                "if not last or now - tonumber(last) > tonumber(ARGV[1]) then",
                "if false then",
            ),
            ("engine/sqlite_delivery.py", 'if now - known.get("reaped", 0) > lease:', "if False:"),
        ),
    ),
    Mutant(
        "what is due moves in one step",
        "storms scheduler_is_killed",
        "delivery",
        """
def move_due(self, now, limit=500):
    if hasattr(self, "path"):
        sql = "DELETE FROM message WHERE queue = ? AND state = 'scheduled' AND due <= ? RETURNING id, data"
        with self.writing() as connection:
            rows = connection.execute(sql, (self.name, now)).fetchall()
    else:
        ids = [one.decode() for one in self.ask("ZRANGEBYSCORE", "schedule", "-inf", now)]
        rows = [(one, self.message(one)) for one in ids]
        ids and self.ask("ZREM", "schedule", *ids)
        for one in ids:
            self.ask("DEL", f"run:{one}")
    for run_id, data in rows:
        self.apply(Effects().enqueue(run_id, bytes(data)))
    return len(rows)
Delivery.move_due = move_due
""",
    ),
    Mutant(
        "a run is settled after its work, not before",
        "storms processes_are_killed and worker",
        "engine/queues.py",
        """
from engine.delivery import Done, Effects
stock_execute = Queue.execute
def execute(self, task, timestamp=None):
    self.storage.settle(self.local.consumer, Done(task.taken, Effects()))
    return stock_execute(self, task, timestamp)
Queue.execute = execute
""",
    ),
    Mutant(
        "the number of the delivery fences a late finisher",
        "frozen overtaken",
        "delivery",
        """
stock_turn, stock_settle = Delivery.turn, Delivery.settle
def unfenced(self, done):
    held = {one.run_id: one for one in self.held()}.get(done.taken.run_id) if done else None
    return done._replace(taken=done.taken._replace(delivery=held.delivery)) if held else done
def turn(self, consumer, worker, look_first, limits, done=None):
    return stock_turn(self, consumer, worker, look_first, limits, unfenced(self, done))
Delivery.turn = turn
Delivery.settle = lambda self, consumer, done: stock_settle(self, consumer, unfenced(self, done))
""",
    ),
    Mutant(
        "who is unsure looks into its own hands first",
        "crash_points answer_lost",
        "delivery",
        """
stock_turn = Delivery.turn
def turn(self, consumer, worker, look_first, limits, done=None):
    return stock_turn(self, consumer, worker, False, limits, done)
Delivery.turn = turn
""",
    ),
    Mutant(
        "what still runs at shutdown is handed back",
        "storms restarts",
        "delivery",
        """
stock_give_back = Delivery.give_back
def give_back(self, consumer, worker, reason, most, counts=True, **more):
    return stock_give_back(self, consumer, worker, reason, most, **more) if counts else 0
Delivery.give_back = give_back
""",
    ),
    Mutant(
        "children die with their parent",
        "storms processes_are_killed and parent",
        "engine/consumer.py",
        """
class LIBC:
    prctl = lambda *words: 0
""",
    ),
    Mutant(
        "a message that nobody can run is kept",
        "storms nobody_can_run",
        "delivery",
        "Delivery.bury = lambda self, consumer, taken, reason: self.settle(consumer, Done(taken, Effects()))",
    ),
    Mutant(
        "a run that takes down every worker ends as dead",
        "storms nobody_can_run",
        "delivery",
        """
stock_give_back = Delivery.give_back
def give_back(self, consumer, worker, reason, most, *rest, **more):
    return stock_give_back(self, consumer, worker, reason, 10**9, *rest, **more)
Delivery.give_back = give_back
""",
    ),
    Mutant(
        "a tick lets one run in",
        "ticks tick",
        "delivery",
        """
stock_tick = Delivery.tick
def tick(self, task, minute, effects):
    if not stock_tick(self, task, minute, effects):
        self.apply(effects)
    return True
Delivery.tick = tick
""",
    ),
    Mutant(
        "an id that cannot be kept is refused",
        "refused an_id_that_is_not",
        instead=(
            (
                "engine/enqueuing.py",
                "            check_call(task)\n            task.envelope =",
                "            task.envelope =",
            ),
        ),
    ),
    Mutant(
        "an option that cannot be kept is refused where it is declared",
        "refused where_it_is_declared",
        instead=(("engine/run_task.py", "check_declaration(args[1] or func.__name__, settings)", "pass"),),
    ),
    Mutant(
        "an option that cannot be kept is refused where it is called",
        "refused where_it_is_called",
        instead=(("engine/options.py", "if not is_right(value := getattr(call, name)):", "if False:"),),
    ),
    Mutant(
        "a second task of a name ends the program",
        "same_name every_program and command",
        instead=(
            (
                "engine/registry.py",
                "if registry is not self or source_of(other) != source_of(task_class):",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "a worker of the web server is not started for ever where tasks have one name",
        "same_name every_program and web",
        instead=(("gunicorn.conf.py", "\nrefuse_tasks_that_cannot_be_told_apart()\n", "\n"),),
    ),
    Mutant(
        "a caller's dictionary is told from an outcome",
        "outcomes it_arrives_so",
        "engine/outcomes.py",
        "escaped = lambda value: value",
    ),
    Mutant(
        "an outcome in a record is told from a caller's dictionary",
        "outcomes handed_on_again_by_a_retry",
        instead=(("engine/outcomes.py", "return Outcome(value) if", "return value if"),),
    ),
    Mutant(
        "the revocation of a run that has ended expires",
        "revocations has_ended_expires",
        instead=(
            (
                "engine/redis_scripts.py",
                "if call('exists', run(ARGV[1])) == 0 then call('expire'",
                "if false then call('expire'",
            ),
            ("engine/sqlite_delivery.py", "None if is_known else expires", "None"),
        ),
    ),
    Mutant(
        "a run that is enqueued takes its revocation along",
        "revocations takes_the_revocation_along",
        instead=(
            ("engine/redis_scripts.py", "  call('persist', prefix .. 'kv:r:' .. id)\n", ""),
            ("engine/sqlite_delivery.py", "UPDATE kv SET expires = NULL", "UPDATE kv SET expires = expires"),
        ),
    ),
    Mutant(
        "a revocation goes with its run",
        "revocations goes_with_its_run",
        instead=(
            ("engine/redis_scripts.py", "run(id), prefix .. 'kv:r:' .. id, prefix", "run(id), prefix"),
            (
                "engine/sqlite_delivery.py",
                '        connection.execute("DELETE FROM kv WHERE queue = ? AND key = ?", (self.name, f"r:{run_id}"))',
                "        pass",
            ),
        ),
    ),
    Mutant(
        "the cleanup removes revocations that do not expire",
        "revocations cleanup_finds",
        instead=(
            ("engine/redis_scripts.py", "if call('ttl', key) == -1 and", "if false and"),
            ("engine/sqlite_delivery.py", "AND expires IS NULL AND NOT EXISTS", "AND FALSE AND NOT EXISTS"),
        ),
    ),
    Mutant(
        "inspect scheduled lists everything",
        "inspect_scheduled lists_everything",
        instead=(("engine/inspect.py", "limit: int | None = None", "limit: int | None = 1000"),),
    ),
    Mutant(
        "a message for a task that is not known is left to newer code",
        "put_off newer_code_takes_what",
        "engine/queues.py",
        "Queue.put_off = lambda self, taken, task: self.storage.bury(self.local.consumer, taken, task)",
    ),
    Mutant(
        "newer code finds what was put off",
        "put_off newer_code_takes_what",
        instead=(("engine/queues.py", "self.storage.known = self._registry._registry", "self.storage.known = ()"),),
    ),
    Mutant(
        "what nobody knows is dead after its grace",
        "put_off come_in_time or keeps_where",
        "delivery",
        """
stock_put_off = Delivery.put_off
Delivery.put_off = lambda self, consumer, taken, why, grace: stock_put_off(self, consumer, taken, why, 10**6)
""",
    ),
    Mutant(
        "what was put off keeps its place",
        "put_off keep_their_order",
        instead=(
            (
                "engine/redis_scripts.py",
                "prefix .. 'missing:' .. task, h.score, id)",
                "prefix .. 'missing:' .. task, '4e9', id)",
            ),
            ("engine/sqlite_put_off.py", '"UPDATE message SET due = ?,', '"UPDATE message SET score = 4e9, due = ?,'),
        ),
    ),
    Mutant(
        "who puts off too late changes nothing",
        "put_off too_late or answer_that_was_lost",
        instead=(
            ("engine/redis_scripts.py", "h.consumer ~= ARGV[1] or h.delivery ~= tonumber(ARGV[3])", "false"),
            ("engine/sqlite_put_off.py", "AND consumer = ? AND deliveries = ?", "AND ? <> '' AND ? > 0"),
        ),
    ),
    Mutant(
        "a run that is requeued has a fresh grace",
        "put_off requeued_it_has",
        instead=(
            (
                "engine/redis_scripts.py",
                "call('hdel', run(ARGV[1]), 'deaths', 'met', 'met_at')",
                "call('hdel', run(ARGV[1]), 'deaths')",
            ),
            ("engine/sqlite_delivery.py", 'since = ?1, met_at = NULL "', 'since = ?1 "'),
        ),
    ),
    Mutant(
        "what newer code has begun has a fresh grace",
        "put_off has_begun_has_a_fresh",
        instead=(
            ("engine/redis_scripts.py", "    call('hdel', run(id), 'met', 'met_at')\n", ""),
            ("engine/redis_scripts.py", "; call('hdel', run(id), 'met', 'met_at')", ""),
            ("engine/sqlite_put_off.py", "missing = NULL, met = NULL, met_at = NULL", "missing = NULL"),
            ("engine/sqlite_delivery.py", 'worker = NULL, met_at = NULL "', 'worker = NULL "'),
        ),
    ),
    Mutant(
        "that a message was put off is no start of its run",
        "put_off does_not_take_the_moment",
        instead=(("engine/playback.py", "run.update(before, state=", "run.update(state="),),
    ),
    Mutant(
        "a file of the version before gets its columns",
        "put_off file_of_the_version_before",
        instead=(("engine/sqlite_values.py", "            self.add_columns(connection)\n", ""),),
    ),
]


def main(words: list[str]) -> int:
    alive = 0
    for mutant in MUTANTS:
        if words and not any(word in mutant.mechanism for word in words):
            continue
        with tempfile.TemporaryDirectory(prefix="dewey-mutant-") as folder:
            tree = Path(folder) / "tree"
            shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "data"))
            mutate(tree, mutant)
            outcome = tested(tree, mutant.test)
        caught = "passed" not in outcome and "error" not in outcome and "failed" in outcome
        alive += not caught
        print(f"{'caught' if caught else 'ALIVE '} | {mutant.mechanism} | test_{mutant.test} | {outcome}", flush=True)
    return bool(alive)


def mutate(tree: Path, mutant: Mutant) -> None:
    for file, old, new in mutant.instead:
        text = (tree / file).read_text()
        assert old in text, f"{file} says no more: {old}"
        (tree / file).write_text(text.replace(old, new))
    modules = DELIVERIES if mutant.module == "delivery" else {mutant.module: ""} if mutant.module else {}
    for module, name in modules.items():
        header = "\n\nimport time\nfrom engine.delivery import Done, Effects\n" if name else "\n\n"
        with open(tree / module, "a") as file:
            file.write(header + re.sub(r"\bDelivery\b", name, mutant.code) + "\n")


def tested(tree: Path, test: str) -> str:
    """The last line of what pytest says."""
    file, _, selection = test.partition(" ")
    path = next(tree.glob(f"tests/**/test_{file}.py"))
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(path.relative_to(tree)), "-k", selection]
    done = subprocess.run([sys.executable, *command], cwd=tree, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
