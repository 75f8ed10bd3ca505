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

DELIVERIES = {"engine/broker/redis.py": "RedisDelivery", "engine/broker/sqlite.py": "SqliteDelivery"}


class Mutant(NamedTuple):
    mechanism: str
    test: str  # file, and what selects in it
    module: str = ""  # or `delivery` for both
    code: str = ""  # `Delivery` stands for the class
    instead: tuple[tuple[str, str, str], ...] = ()  # files, what stands in them, and what then stands there


MUTANTS = [
    Mutant(
        "an outcome that cannot be put together fails the attempt",
        "settling chord",
        "engine/queues/settler.py",
        "Settler.settle_as_failed = Settler.give_up",
    ),
    Mutant(
        "a delivery without a settled outcome counts",
        "settling does_not_take",
        "engine/queues/settler.py",
        """
def give_up(self, settlement, error):
    self.local.last, self.local.unsure = None, True
Settler.give_up = give_up
""",
    ),
    Mutant(
        "a result is made while a failure is the attempt's own",
        "settling odd_outcome and long",
        "engine/queues/queue.py",
        "Queue.check_result = lambda self, task, value: None",
    ),
    Mutant(
        "a value that is not finite is no JSON",
        "settling odd_outcome and list",
        "engine/broker/messages.py",
        "find_not_finite = lambda value, name='it': None",
    ),
    Mutant(
        "a BaseException of a task is a failure of that task",
        "settling odd_outcome and keyboard",
        instead=(("engine/queues/task.py", "if task.queue.current is None:", "if True:"),),
    ),
    Mutant(
        "a retry at no time is a failure",
        "settling odd_outcome and soon",
        "engine/queues/task.py",
        "check_delay = lambda error: None",
    ),
    Mutant(
        "hooks are contained",
        "settling hooks_and_receivers",
        "engine/queues/queue.py",
        """
Queue._run_pre_execute, Queue._emit = Enqueuing._run_pre_execute, Enqueuing._emit
""",
    ),
    Mutant(
        "text that is not UTF-8 is kept with escapes",
        "settling odd_outcome and value and surrogate",
        "engine/text.py",
        "storable = lambda text, limit=0: text",
    ),
    Mutant(
        "an error that cannot describe itself is described",
        "settling odd_outcome and str",
        "engine/text.py",
        "attempt_text = lambda error, convert: convert(error)",
    ),
    Mutant(
        "a cancel wins until the outcome is stored",
        "settling cancel_wins",
        instead=(
            ("engine/broker/redis_scripts.py", "if is_cancel ~= '1' and (mark", "if false and (mark"),
            (
                "engine/broker/redis_scripts.py",
                "if mark == 'c' or mark == 'C' then return {-2",
                "if false then return {-2",
            ),
            ("engine/broker/sqlite.py", "is not None and not done.is_cancel:", "is False:"),
        ),
    ),
    Mutant(
        "what a dead worker held is given back",
        "crash_points after_take",
        "engine/worker/consumer.py",
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
            ("engine/broker/redis_scripts.py", "now - math.max(tonumber(at), took) > ", "now - tonumber(at) > "),
            ("engine/broker/sqlite.py", "GROUP BY consumer HAVING max(held_at) <= ?2", "GROUP BY consumer"),
        ),
    ),
    Mutant(
        "after an outage the reaper waits a round",
        "frozen slept",
        instead=(
            (
                "engine/broker/redis_scripts.py",
                "if not last or now - (tonumber(last) or 0) > tonumber(ARGV[1]) then",
                "if false then",
            ),
            ("engine/broker/sqlite.py", 'if now - known.get("reaped", 0) > lease:', "if False:"),
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
        "engine/queues/queue.py",
        """
from engine.broker.deliveries import FinishedRun
from engine.broker.effects import Effects
stock_execute = Queue.execute
def execute(self, task, timestamp=None):
    self.storage.deliveries.settle(self.local.consumer, Done(task.taken, Effects()))
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
    held = {one.run_id: one for one in self.held()}.get(done.claimed.run_id) if done else None
    return done._replace(taken=done.claimed._replace(delivery=held.delivery)) if held else done
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
        "engine/worker/processes.py",
        """
class LIBC:
    prctl = lambda *words: 0
TiedProcesses.outlive_parent = lambda self: None
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
        "a killed worker takes along what its task has started",
        "processes all_that_the_task_has_started",
        "engine/worker/processes.py",
        """
def kill(self, process):
    process.kill()
    process.join()
TiedProcesses.kill = kill
""",
    ),
    Mutant(
        "a killed worker takes along sessions apart",
        "processes hard_limit",
        "engine/worker/processes.py",
        "descendants = lambda pid: []",
    ),
    Mutant(
        "a stop takes along what tasks have started",
        "processes stop_after_the_grace",
        "engine/worker/consumer.py",
        "kill_all = lambda processes: None",
    ),
    Mutant(
        "a dead worker takes along its process group",
        "processes takes_its_process_group or finished_task",
        "engine/worker/processes.py",
        "TiedProcesses.end_group = lambda self, process: None",
    ),
    Mutant(
        "the scheduler ends the process groups of a killed consumer",
        "processes consumer_that_is_killed",
        "engine/worker/processes.py",
        """
def outlive_parent(self):
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
TiedProcesses.outlive_parent = outlive_parent
""",
    ),
    Mutant(
        "workers lead process groups of their own",
        "processes ctrl_c",
        instead=(("engine/worker/processes.py", "os.setpgid(0, 0)", "pass"),),
    ),
    Mutant(
        "children of a task do not hold up a worker's end",
        "processes left_behind",
        instead=(("engine/worker/worker.py", "child.kill()", "pass"),),
    ),
    Mutant(
        "programs have default signals",
        "processes programs_that_a_task_starts",
        instead=(
            (
                "engine/worker/processes.py",
                "signal.signal(number, do_nothing)",
                "signal.signal(number, signal.SIG_IGN)",
            ),
        ),
    ),
    Mutant(
        "forked processes have default signals",
        "processes forked_processes",
        "engine/worker/processes.py",
        "init_forked = lambda: None",
    ),
    Mutant(
        "forked processes have connections of their own",
        "processes connections_of_their_own and postgresql",
        "engine/worker/processes.py",
        "leave_connections = lambda: None",
    ),
    Mutant(
        "forked processes take no notes",
        "processes connections_of_their_own",
        "engine/queues/log_capture.py",
        "stop = lambda: None",
    ),
    Mutant(
        "tasks may use multiprocessing",
        "processes use_multiprocessing",
        instead=(("engine/worker/processes.py", "process.daemon = False", "pass"),),
    ),
    Mutant(
        "the parent sends the soft limit that SIGALRM did not",
        "processes uses_sigalrm",
        "engine/worker/consumer.py",
        "Consumer.look_after_soft_limits = lambda self: None",
    ),
    Mutant(
        "a soft limit strikes once",
        "processes strikes_once",
        instead=(("engine/worker/soft_limit.py", "        deadline.value = 0.0\n        raise", "        raise"),),
    ),
    Mutant(
        "limits strike by run id",
        "processes no_other",
        "engine/worker/consumer.py",
        "Consumer.is_executed = lambda self, held: True",
    ),
    Mutant(
        "a run that is not executed goes back",
        "processes no_other",
        "engine/worker/consumer.py",
        "Consumer.return_unattended = lambda self, held: None",
    ),
    Mutant(
        "a worker that settles for a killed one is not killed for it",
        "processes is_not_killed_for_it",
        instead=(("engine/worker/consumer.py", "if worker.cut_off and worker.cut_off[0] == held:", "if False:"),),
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
        "a Redis that refuses counts as unavailable",
        "refusing every_state or every_reply",
        instead=(
            (
                "engine/broker/redis_refusals.py",
                'if reply.partition(" ")[0] in REFUSALS or UNNAMED.match(reply):',
                'if reply.partition(" ")[0] in ("OOM", "READONLY", "NOSCRIPT"):',
            ),
        ),
    ),
    Mutant(
        "at random refused steps are repeated",
        "storms refuses_at_random",
        instead=(("engine/broker/redis_refusals.py", "in REFUSALS or UNNAMED.match(reply)", "== 'NOSCRIPT'"),),
    ),
    Mutant(
        "a refusal inside a script of Redis 6.2 is recognised",
        "refusing every_reply or (every_state and 6.2)",
        instead=(("engine/broker/redis_refusals.py", 'IN_SCRIPT_6.sub("", text)', "text"),),
    ),
    Mutant(
        "a PostgreSQL that refuses writes is unavailable",
        "refused_answers postgresql",
        instead=(("engine/outages.py", '"25006": Fault.SERVER', '"25006": Fault.STATEMENT'),),
    ),
    Mutant(
        "a session of PostgreSQL that refuses writes is closed",
        "outages session_that_takes_no_writes",
        instead=(("engine/database.py", 'return "on" not in map', "return True or map"),),
    ),
    Mutant(
        "an error of SQLite that refuses for want of room is not hidden by its rollback",
        "outages sqlite_has_no_room",
        instead=(("engine/database.py", "if not self.is_closed() and self.can_roll_back():", "if True:"),),
    ),
    Mutant(
        "a file that refused a write is opened again",
        "outages file_that_was_read_only",
        instead=(("engine/broker/sqlite_results.py", "elif local.refused:", "elif False:"),),
    ),
    Mutant(
        "a broker that refuses writes is not ready",
        "refused_answers redis or sqlite_is_locked",
        instead=(("engine/monitor/write_probe.py", "return broker.error(", "return None and broker.error("),),
    ),
    Mutant(
        "a database that refuses writes is not ready",
        "refused_answers postgresql or sqlite_is_locked",
        instead=(("engine/monitor/write_probe.py", "return rows.error(", "return None and rows.error("),),
    ),
    Mutant(
        "a server that neither accepts nor refuses a write holds up no thread of the web",
        "write_probe frozen",
        instead=(
            (
                "engine/monitor/write_probe.py",
                "last.join(max(last.began + WITHIN_SECONDS - monotonic(), 0))",
                "last.join()",
            ),
        ),
    ),
    Mutant(
        "wrong tries that Redis refuses to count are counted here",
        "refused_answers redis",
        instead=(("admin/auth/wrong_tries.py", "except RedisError:", "except ZeroDivisionError:"),),
    ),
    Mutant(
        "an id that cannot be kept is refused",
        "refused an_id_that_is_not",
        instead=(
            (
                "engine/queues/enqueue.py",
                "            check_call(task)\n            task.envelope =",
                "            task.envelope =",
            ),
        ),
    ),
    Mutant(
        "an option that cannot be kept is refused where it is declared",
        "refused where_it_is_declared",
        instead=(("engine/queues/task.py", "check_declaration(args[1] or func.__name__, settings)", "pass"),),
    ),
    Mutant(
        "an option that cannot be kept is refused where it is called",
        "refused where_it_is_called",
        instead=(("engine/queues/options.py", "if not is_right(value := getattr(call, name)):", "if False:"),),
    ),
    Mutant(
        "a second task of a name ends the program",
        "same_name every_program and command",
        instead=(
            (
                "engine/queues/registry.py",
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
                "engine/broker/redis_scripts.py",
                "if call('exists', run(ARGV[1])) == 0 then call('expire'",
                "if false then call('expire'",
            ),
            ("engine/broker/sqlite.py", "None if is_known else expires", "None"),
        ),
    ),
    Mutant(
        "a run that is enqueued takes its revocation along",
        "revocations takes_the_revocation_along",
        instead=(
            ("engine/broker/redis_scripts.py", "  call('persist', prefix .. 'kv:r:' .. id)\n", ""),
            ("engine/broker/sqlite.py", "UPDATE kv SET expires = NULL", "UPDATE kv SET expires = expires"),
        ),
    ),
    Mutant(
        "a revocation goes with its run",
        "revocations goes_with_its_run",
        instead=(
            ("engine/broker/redis_scripts.py", "run(id), prefix .. 'kv:r:' .. id, prefix", "run(id), prefix"),
            (
                "engine/broker/sqlite.py",
                '        connection.execute("DELETE FROM kv WHERE queue = ? AND key = ?", (self.name, f"r:{run_id}"))',
                "        pass",
            ),
        ),
    ),
    Mutant(
        "the cleanup removes revocations that do not expire",
        "revocations cleanup_finds",
        instead=(
            ("engine/broker/redis_scripts.py", "if call('ttl', key) == -1 and", "if false and"),
            ("engine/broker/sqlite.py", "AND expires IS NULL AND NOT EXISTS", "AND FALSE AND NOT EXISTS"),
        ),
    ),
    Mutant(
        "inspect scheduled lists everything",
        "inspect_scheduled lists_everything",
        instead=(("engine/monitor/celery_inspect.py", "limit: int | None = None", "limit: int | None = 1000"),),
    ),
    Mutant(
        "a message for a task that is not known is left to newer code",
        "put_off newer_code_takes_what",
        "engine/queues/queue.py",
        "Queue.put_off = lambda self, taken, task: self.storage.deliveries.dead_letter(self.local.consumer, taken, task)",
    ),
    Mutant(
        "newer code finds what was put off",
        "put_off newer_code_takes_what",
        instead=(
            (
                "engine/queues/queue.py",
                "self.storage.deliveries.known_tasks = self._registry._registry",
                "self.storage.deliveries.known_tasks = ()",
            ),
        ),
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
                "engine/broker/redis_scripts.py",
                "prefix .. 'missing:' .. task, h.score, id)",
                "prefix .. 'missing:' .. task, '4e9', id)",
            ),
            (
                "engine/broker/sqlite_put_off.py",
                '"UPDATE message SET due = ?,',
                '"UPDATE message SET score = 4e9, due = ?,',
            ),
        ),
    ),
    Mutant(
        "who puts off too late changes nothing",
        "put_off too_late or answer_that_was_lost",
        instead=(
            ("engine/broker/redis_scripts.py", "h.consumer ~= ARGV[1] or h.delivery ~= tonumber(ARGV[3])", "false"),
            ("engine/broker/sqlite_put_off.py", "AND consumer = ? AND deliveries = ?", "AND ? <> '' AND ? > 0"),
        ),
    ),
    Mutant(
        "a run that is requeued has a fresh grace",
        "put_off requeued_it_has",
        instead=(
            (
                "engine/broker/redis_scripts.py",
                "call('hdel', run(ARGV[1]), 'deaths', 'cancel', 'met', 'met_at')",
                "call('hdel', run(ARGV[1]), 'deaths', 'cancel')",
            ),
            ("engine/broker/sqlite.py", '"met_at = NULL WHERE queue', '"cancel = NULL WHERE queue'),
        ),
    ),
    Mutant(
        "what newer code has begun has a fresh grace",
        "put_off has_begun_has_a_fresh",
        instead=(
            ("engine/broker/redis_scripts.py", "    call('hdel', run(id), 'met', 'met_at')\n", ""),
            ("engine/broker/redis_scripts.py", "; call('hdel', run(id), 'met', 'met_at')", ""),
            ("engine/broker/sqlite_put_off.py", "missing = NULL, met = NULL, met_at = NULL", "missing = NULL"),
            ("engine/broker/sqlite.py", 'worker = NULL, met_at = NULL "', 'worker = NULL "'),
        ),
    ),
    Mutant(
        "that a message was put off is no start of its run",
        "put_off does_not_take_the_moment",
        instead=(("engine/history/event_handlers.py", "run.update(before, state=", "run.update(state="),),
    ),
    Mutant(
        "a file of the version before gets its columns",
        "put_off file_of_the_version_before",
        instead=(("engine/broker/sqlite_results.py", "            self.add_columns(connection)\n", ""),),
    ),
    Mutant(
        "an event that cannot be written is set aside",
        "rejected_events understands_are_set or refuses_does_not_stop_the_others or many_refused",
        instead=(
            ("engine/history/writer.py", "        if not is_refusal(error):\n            raise", "        raise"),
        ),
    ),
    Mutant(
        "history goes on past the rows that a database refuses",
        "storms database_refuses",
        instead=(
            ("engine/history/writer.py", "        if not is_refusal(error):\n            raise", "        raise"),
        ),
    ),
    Mutant(
        "a database that is unavailable rejects no event",
        "rejected_events lacks_a_table",
        "engine/history/writer.py",
        """
is_refusal = lambda error: True
rejected.is_refusal = rejected.refused.__globals__["is_refusal"] = is_refusal
""",
    ),
    Mutant(
        "history goes on past a rejected event that cannot be listed",
        "rejected_events cannot_even",
        instead=(
            ("engine/history/rejected.py", "        if not is_refusal(refusal):\n            raise", "        raise"),
        ),
    ),
    Mutant(
        "rejected events are removed in time",
        "rejected_events kept_as_long",
        "engine/history/rejected.py",
        "forget = lambda before: None",
    ),
    Mutant(
        "the recorder outlives an exception",
        "loops all_of_its_loops",
        instead=(("engine/history/recorder.py", "except Exception as error", "except ZeroDivisionError as error"),),
    ),
    Mutant(
        "the scheduler outlives an exception",
        "loops all_of_its_loops",
        instead=(
            (
                "engine/worker/scheduler.py",
                "        except Exception as error:\n            self.back_off",
                "        except ZeroDivisionError as error:\n            self.back_off",
            ),
        ),
    ),
    Mutant(
        "a consumer outlives an exception",
        "loops all_of_its_loops",
        instead=(
            (
                "engine/worker/consumer.py",
                "            except Exception as error:\n                back_off",
                "            except ZeroDivisionError as error:\n                back_off",
            ),
        ),
    ),
    Mutant(
        "a recorder that has ended is replaced",
        "loops recorder_that_has_ended",
        instead=(
            ("engine/worker/scheduler.py", "if self.recorder and self.recorder.is_alive():", "if self.recorder:"),
        ),
    ),
    Mutant(
        "a schedule that raises keeps nothing else waiting",
        "loops schedule_that_raises",
        instead=(
            (
                "engine/worker/worker.py",
                "    except Exception as error:\n        return error",
                "    except KeyError as error:\n        return error",
            ),
        ),
    ),
    Mutant(
        "the sender of log lines outlives an exception",
        "loops sender_of_log_lines",
        instead=(("engine/queues/log_capture.py", "        return error", "        raise SystemExit from error"),),
    ),
    Mutant(
        "the request counter outlives an exception",
        "loops request_counter",
        instead=(("admin/api/request_metrics.py", "self.back_off.failed(error)", "raise SystemExit from error"),),
    ),
    Mutant(
        "the watch outlives an exception",
        "loops the_watch_goes_on",
        instead=(
            (
                "admin/alerts/watcher.py",
                "except Exception as error:\n            self.watching",
                "except KeyError as error:\n            self.watching",
            ),
        ),
    ),
    Mutant(
        "a notice that cannot be put into words is one that is not sent",
        "loops put_into_words",
        instead=(("admin/alerts/channels.py", "    except Exception as error:", "    except OSError as error:"),),
    ),
    Mutant(
        "the supervisor outlives an exception",
        "loops the_supervisor",
        instead=(("admin/cli/supervisor.py", "except Exception as error", "except KeyError as error"),),
    ),
    Mutant(
        "a malformed heartbeat is left out",
        "malformed_entries a_malformed_heartbeat",
        instead=(
            (
                "engine/broker/entries.py",
                '    except BAD:\n        report("heartbeat"',
                '    except ZeroDivisionError:\n        report("heartbeat"',
            ),
        ),
    ),
    Mutant(
        "a malformed pause can be read",
        "malformed_entries a_malformed_pause",
        instead=(("engine/broker/entries.py", '    return absent | {"by": "?"', '    return absent | {"who": "?"'),),
    ),
    Mutant(
        "a malformed order is taken away",
        "malformed_entries a_malformed_order",
        instead=(("engine/queues/remote_control.py", "    for what in found:", "    for what in ():"),),
    ),
    Mutant(
        "a malformed stack dump is none",
        "malformed_entries a_malformed_stack_dump",
        instead=(("engine/queues/remote_control.py", "except BAD:", "except ZeroDivisionError:"),),
    ),
    Mutant(
        "a run whose holder cannot be read goes back",
        "malformed_entries whose_holder_cannot",
        instead=(("engine/broker/redis_scripts.py", "            take_back(all[j])\n", ""),),
    ),
    Mutant(
        "a malformed lock is nobody's",
        "malformed_entries nobodys and garbage",
        instead=(("engine/broker/redis_scripts.py", "pcall(cjson.decode, raw)", "true, cjson.decode(raw)"),),
    ),
    Mutant(
        "a run that the broker has lost is found",
        "lost_runs emptied or in_its_turn",
        "engine/history/lost_runs.py",
        "LostRuns.look = lambda self: None",
    ),
    Mutant(
        "a run that the broker has is not lost",
        "lost_runs what_the_broker_has",
        "delivery",
        """
from engine.broker.effects import event_json
def report_lost(self, ids):
    for run_id in ids:
        self.apply(Effects().event(event_json("lost", run_id, time.time())))
Delivery.report_lost = report_lost
""",
    ),
    Mutant(
        "a run that has ended is not lost",
        "lost_runs is_not_on_record_yet",
        instead=(("engine/history/event_handlers.py", 'if run and run["state"] not in ENDED:', "if run:"),),
    ),
    Mutant(
        "history that lags makes the service unready",
        "history_lag five_minutes",
        "engine/monitor/status.py",
        "late_history = lambda queues: []",
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
        header = "\n\nimport time\nfrom engine.broker.types import Done, Effects\n" if name else "\n\n"
        with open(tree / module, "a") as file:
            file.write(header + re.sub(r"\bDelivery\b", name, mutant.code) + "\n")


def tested(tree: Path, test: str) -> str:
    """The last line of what pytest says."""
    file, _, selection = test.partition(" ")
    (path,) = (tree / "tests").rglob(f"test_{file}.py")
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(path), "-k", selection]
    done = subprocess.run([sys.executable, *command], cwd=tree, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
