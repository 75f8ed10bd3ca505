"""The mechanisms that faults test. Run them on both brokers with `python tests/faults/mutants.py [word…]`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutation import Mutant, main

MUTANTS = [
    Mutant(
        "an outcome that cannot be built fails the attempt",
        "settling chord",
        "engine/queues/settler.py",
        "Settler.settle_as_failed = Settler.give_up",
    ),
    Mutant(
        "a delivery without a settled outcome counts",
        "settling refused_by_the_broker",
        "engine/queues/settler.py",
        """
def give_up(self, settlement, error):
    self.state.last, self.state.unsure = None, True
Settler.give_up = give_up
""",
    ),
    Mutant(
        "a result is serialized while a failure still counts for the attempt",
        "settling odd_outcome and long",
        "engine/queues/queue.py",
        "Queue.check_result = lambda self, task, value: None",
    ),
    Mutant(
        "a value that is not finite is not valid JSON",
        "settling odd_outcome and list",
        "engine/broker/messages.py",
        "find_not_finite = lambda value, name='it': None",
    ),
    Mutant(
        "a BaseException of a task is a failure of that task",
        "settling odd_outcome and keyboard",
        instead=(("engine/queues/task.py", "if task.queue.state.current is None:", "if True:"),),
    ),
    Mutant(
        "a retry at an impossible time is a failure",
        "settling odd_outcome and soon",
        "engine/queues/task.py",
        "check_delay = lambda error: None",
    ),
    Mutant(
        "an error in a hook does not end the worker",
        "settling hooks_and_receivers",
        "engine/queues/queue.py",
        """
Queue._run_pre_execute, Queue._emit = Huey._run_pre_execute, Huey._emit
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
        "a cancel takes effect until the outcome is stored",
        "settling cancel_wins",
        instead=(
            ("engine/broker/lua/lib/settle.lua", "if is_cancel ~= '1' and (mark", "if false and (mark"),
            (
                "engine/broker/lua/quick_settle_and_claim.lua",
                "if mark == 'c' or mark == 'C' then return {-2",
                "if false then return {-2",
            ),
            ("engine/broker/sqlite/deliveries.py", "is not None and not finished.is_cancel:", "is False:"),
        ),
    ),
    Mutant(
        "the runs of a dead worker are returned",
        "crash_points after_take",
        "engine/worker/consumer.py",
        "Consumer.release_held = lambda self, slot: True",
    ),
    Mutant(
        "the runs of a dead consumer are returned",
        "storms processes_are_killed and tree",
        "deliveries",
        "Part.reap = lambda self, lease, most: []",
    ),
    Mutant(
        "a claim counts as a heartbeat",
        "frozen woken",
        instead=(
            ("engine/broker/lua/reap.lua", "now - math.max(tonumber(at), claimed_at) > ", "now - tonumber(at) > "),
            ("engine/broker/sqlite/deliveries.py", "GROUP BY consumer HAVING max(held_at) <= ?2", "GROUP BY consumer"),
        ),
    ),
    Mutant(
        "after an outage the first check returns no runs",
        "frozen slept",
        instead=(
            ("engine/broker/lua/reap.lua", "if not last or now - (tonumber(last) or 0) > lease then", "if false then"),
            ("engine/broker/sqlite/deliveries.py", 'if now - times.get("reaped", 0) > lease:', "if False:"),
        ),
    ),
    Mutant(
        "due runs are moved in one step",
        "storms scheduler_is_killed",
        "messages",
        """
from engine.broker.effects import Effects
def enqueue_due(self, now, limit=500):
    if hasattr(self, "database"):
        sql = "DELETE FROM message WHERE queue = ? AND state = 'scheduled' AND due <= ? RETURNING id, data"
        with self.database.write_transaction() as connection:
            rows = connection.execute(sql, (self.queue, now)).fetchall()
    else:
        command = self.client.command
        ids = [run_id.decode() for run_id in command("ZRANGEBYSCORE", "schedule", "-inf", now)]
        rows = [(run_id, self.get(run_id)) for run_id in ids]
        ids and command("ZREM", "schedule", *ids)
        for run_id in ids:
            command("DEL", f"run:{run_id}")
    for run_id, data in rows:
        self.write(Effects().enqueue(run_id, bytes(data)))
    return len(rows)
Part.enqueue_due = enqueue_due
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
    self.storage.deliveries.settle(self.state.consumer, FinishedRun(task.taken, Effects()))
    return stock_execute(self, task, timestamp)
Queue.execute = execute
""",
    ),
    Mutant(
        "the number of the delivery fences a late finisher",
        "frozen overtaken",
        "deliveries",
        """
stock_turn, stock_settle = Part.settle_and_claim, Part.settle
def unfenced(self, done):
    held = {row.run_id: row for row in self.held()}.get(done.claimed.run_id) if done else None
    return done._replace(claimed=done.claimed._replace(delivery=held.delivery)) if held else done
def settle_and_claim(self, consumer, worker, look_first, limits, done=None):
    return stock_turn(self, consumer, worker, look_first, limits, unfenced(self, done))
Part.settle_and_claim = settle_and_claim
Part.settle = lambda self, consumer, done: stock_settle(self, consumer, unfenced(self, done))
""",
    ),
    Mutant(
        "a worker in doubt checks its held runs first",
        "crash_points answer_lost",
        "deliveries",
        """
stock_turn = Part.settle_and_claim
def settle_and_claim(self, consumer, worker, look_first, limits, done=None):
    return stock_turn(self, consumer, worker, False, limits, done)
Part.settle_and_claim = settle_and_claim
""",
    ),
    Mutant(
        "runs in progress at shutdown are returned",
        "storms restarts",
        "deliveries",
        """
stock_release = Part.release
def release(self, consumer, worker, reason, most, counts=True, **options):
    return stock_release(self, consumer, worker, reason, most, **options) if counts else 0
Part.release = release
""",
    ),
    Mutant(
        "children end with their parent",
        "storms processes_are_killed and parent",
        "engine/worker/processes.py",
        """
class LIBC:
    prctl = lambda *words: 0
BoundProcesses.watch_parent = lambda self: None
""",
    ),
    Mutant(
        "a message that cannot run is kept",
        "storms poison_messages",
        "deliveries",
        """
from engine.broker.deliveries import FinishedRun
from engine.broker.effects import Effects
Part.dead_letter = lambda self, consumer, claimed, reason: self.settle(consumer, FinishedRun(claimed, Effects()))
""",
    ),
    Mutant(
        "a run that kills every worker ends as dead",
        "storms poison_messages",
        "deliveries",
        """
stock_release = Part.release
def release(self, consumer, worker, reason, most, *rest, **options):
    return stock_release(self, consumer, worker, reason, 10**9, *rest, **options)
Part.release = release
""",
    ),
    Mutant(
        "a killed worker ends the processes of its task",
        "processes all_processes_of_the_task",
        "engine/worker/processes.py",
        """
def kill(self, process):
    process.kill()
    process.join()
BoundProcesses.kill = kill
""",
    ),
    Mutant(
        "a killed worker ends processes in other sessions",
        "processes hard_limit_kills_all",
        "engine/worker/processes.py",
        "descendants = lambda pid: []",
    ),
    Mutant(
        "a stop ends the processes of tasks",
        "processes stop_after_the_grace",
        "engine/worker/consumer.py",
        "kill_all = lambda processes: None",
    ),
    Mutant(
        "the process group of a dead worker is ended",
        "processes takes_its_process_group or finished_task",
        "engine/worker/processes.py",
        "BoundProcesses.end_group = lambda self, process: None",
    ),
    Mutant(
        "the scheduler ends the process groups of a killed consumer",
        "processes killed_consumer",
        "engine/worker/processes.py",
        """
def watch_parent(self):
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
BoundProcesses.watch_parent = watch_parent
""",
    ),
    Mutant(
        "each worker leads a process group",
        "processes ctrl_c",
        instead=(("engine/worker/processes.py", "os.setpgid(0, 0)", "pass"),),
    ),
    Mutant(
        "children of a task do not delay the end of a worker",
        "processes leftover_child",
        instead=(("engine/worker/worker.py", "child.kill()", "pass"),),
    ),
    Mutant(
        "programs have default signals",
        "processes programs_started",
        instead=(
            (
                "engine/worker/processes.py",
                "signal.signal(number, ignore_signal)",
                "signal.signal(number, signal.SIG_IGN)",
            ),
        ),
    ),
    Mutant(
        "forked processes have default signals",
        "processes processes_forked",
        "engine/worker/processes.py",
        "init_forked = lambda: None",
    ),
    Mutant(
        "forked processes open new connections",
        "processes their_own_connections and postgresql",
        "engine/worker/processes.py",
        "abandon_connections = lambda: None",
    ),
    Mutant(
        "forked processes capture no log lines",
        "processes their_own_connections",
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
        "engine/worker/limits.py",
        "LimitEnforcer.enforce_soft_limits = lambda self: None",
    ),
    Mutant(
        "a soft limit is applied once",
        "processes interrupts_a_task_once",
        instead=(("engine/worker/soft_limit.py", "        deadline.value = 0.0\n        raise", "        raise"),),
    ),
    Mutant(
        "limits are applied by run id",
        "processes only_the_worker_of_its_run",
        "engine/worker/limits.py",
        "LimitEnforcer.is_executed = lambda self, run: True",
    ),
    Mutant(
        "a run that is not executed is returned",
        "processes only_the_worker_of_its_run",
        "engine/worker/limits.py",
        "LimitEnforcer.release_unattended = lambda self, runs: None",
    ),
    Mutant(
        "a worker that settles for a killed one is not killed for it",
        "processes settling_for_a_killed_one",
        instead=(("engine/worker/limits.py", "if slot.killed_run and slot.killed_run.held == run:", "if False:"),),
    ),
    Mutant(
        "a tick starts one run",
        "ticks tick",
        "ticks",
        """
stock_record = Part.record
def record(self, task, minute, effects):
    if not stock_record(self, task, minute, effects):
        self.messages.write(effects)
    return True
Part.record = record
""",
    ),
    Mutant(
        "a Redis that refuses counts as unavailable",
        "refusing every_refusing_state or every_refusing_reply",
        instead=(
            (
                "engine/broker/redis/errors.py",
                'if reply.partition(" ")[0] in REFUSALS or UNNAMED.match(reply):',
                'if reply.partition(" ")[0] in ("OOM", "READONLY", "NOSCRIPT"):',
            ),
        ),
    ),
    Mutant(
        "randomly refused steps are repeated",
        "storms refuses_at_random",
        instead=(("engine/broker/redis/errors.py", "in REFUSALS or UNNAMED.match(reply)", "== 'NOSCRIPT'"),),
    ),
    Mutant(
        "a refusal inside a script of Redis 6.2 is recognised",
        "refusing every_refusing_reply or (every_refusing_state and 6.2)",
        instead=(("engine/broker/redis/errors.py", 'IN_SCRIPT_6.sub("", text)', "text"),),
    ),
    Mutant(
        "a PostgreSQL that refuses writes counts as unavailable",
        "refused_answers postgresql",
        instead=(("engine/outages.py", '"25006": Fault.SERVER', '"25006": Fault.STATEMENT'),),
    ),
    Mutant(
        "a session of PostgreSQL that refuses writes is closed",
        "outages read_only_session",
        instead=(("engine/database.py", 'return "on" not in map', "return True or map"),),
    ),
    Mutant(
        "the error of a full SQLite disk is not hidden by its rollback",
        "outages full_sqlite",
        instead=(("engine/database.py", "if not self.is_closed() and self.can_roll_back():", "if True:"),),
    ),
    Mutant(
        "a file that refused a write is reopened",
        "outages from_a_read_only_file",
        instead=(("engine/broker/sqlite/database.py", " and not current.refused:", ":"),),
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
        "a server that does not respond to a write blocks no web thread",
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
        "failed sign-ins that Redis cannot count are counted in memory",
        "refused_answers redis",
        instead=(("admin/auth/limit_storage.py", "except RedisError:", "except ZeroDivisionError:"),),
    ),
    Mutant(
        "an id that cannot be stored is refused",
        "invalid_options unprintable_id",
        instead=(
            (
                "engine/queues/enqueue.py",
                "            check_call(task)\n            task.envelope =",
                "            task.envelope =",
            ),
        ),
    ),
    Mutant(
        "an option that cannot be stored is refused at declaration",
        "invalid_options at_declaration",
        instead=(("engine/queues/task.py", "check_declaration(name or func.__name__, options)", "pass"),),
    ),
    Mutant(
        "an option that cannot be stored is refused at enqueue",
        "invalid_options at_the_call",
        instead=(("engine/queues/options.py", "if not is_right(value := getattr(call, name)):", "if False:"),),
    ),
    Mutant(
        "a second task with the same name ends the program",
        "duplicate_names every_program and command",
        instead=(
            (
                "engine/queues/registry.py",
                "if registry is not self or locate_code(other) != locate_code(task_class):",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "web workers are not restarted forever if task names clash",
        "duplicate_names every_program and web",
        instead=(("gunicorn.conf.py", "\nreject_duplicate_task_names()\n", "\n"),),
    ),
    Mutant(
        "a caller's dictionary is distinguished from an outcome",
        "odd_arguments on_every_path",
        "engine/outcomes.py",
        "escape_key = lambda value: value",
    ),
    Mutant(
        "a recorded outcome is distinguished from a caller's dictionary",
        "odd_arguments retried_chord",
        instead=(("engine/outcomes.py", "return Outcome(value) if", "return value if"),),
    ),
    Mutant(
        "the revocation of a run that has ended expires",
        "revocations of_an_ended_run_expires",
        instead=(
            (
                "engine/broker/lua/revoke.lua",
                "if call('exists', run(id)) == 0 then call('expire'",
                "if false then call('expire'",
            ),
            ("engine/broker/sqlite/results.py", "None if is_known else expires", "None"),
        ),
    ),
    Mutant(
        "an enqueued run carries its revocation",
        "revocations keeps_it",
        instead=(
            ("engine/broker/lua/lib/insert.lua", "  call('persist', prefix .. 'kv:r:' .. id)\n", ""),
            ("engine/broker/sqlite/results.py", "UPDATE kv SET expires = NULL", "UPDATE kv SET expires = expires"),
        ),
    ),
    Mutant(
        "a revocation is removed with its run",
        "revocations deleted_with_its_run",
        instead=(
            ("engine/broker/lua/lib/finish.lua", "run(id), prefix .. 'kv:r:' .. id, prefix", "run(id), prefix"),
            (
                "engine/broker/sqlite/results.py",
                '        connection.execute("DELETE FROM kv WHERE queue = ? AND key = ?", (self.queue, f"r:{run_id}"))',
                "        pass",
            ),
        ),
    ),
    Mutant(
        "the cleanup removes revocations that do not expire",
        "revocations cleanup_deletes",
        instead=(
            ("engine/broker/lua/delete_revocations.lua", "if call('ttl', key) == -1 and", "if false and"),
            ("engine/broker/sqlite/results.py", "AND expires IS NULL AND NOT EXISTS", "AND FALSE AND NOT EXISTS"),
        ),
    ),
    Mutant(
        "inspect scheduled lists everything",
        "inspect_scheduled lists_every_message",
        instead=(("engine/monitor/celery_inspect.py", "limit: int | None = None", "limit: int | None = 1000"),),
    ),
    Mutant(
        "a message for an unknown task is left to newer code",
        "unknown_tasks newer_code_runs_what",
        "engine/queues/claim.py",
        """
def put_off(self, taken, task):
    self.queue.storage.deliveries.dead_letter(self.state.consumer, taken, task)
Claimer.put_off = put_off
""",
    ),
    Mutant(
        "newer code claims rescheduled messages",
        "unknown_tasks newer_code_runs_what",
        instead=(
            (
                "engine/queues/claim.py",
                "self.queue.storage.deliveries.known_tasks = self.queue._registry._registry",
                "self.queue.storage.deliveries.known_tasks = ()",
            ),
        ),
    ),
    Mutant(
        "a message for an unknown task is dead after its grace",
        "unknown_tasks dead_after_its_grace or returns_to_its_place",
        "deliveries",
        """
stock_defer = Part.defer
Part.defer = lambda self, consumer, claimed, missing, grace: stock_defer(self, consumer, claimed, missing, 10**6)
""",
    ),
    Mutant(
        "a rescheduled message keeps its place",
        "unknown_tasks keep_their_order",
        instead=(
            (
                "engine/broker/lua/defer.lua",
                "prefix .. 'missing:' .. task, held.score, id)",
                "prefix .. 'missing:' .. task, '4e9', id)",
            ),
            (
                "engine/broker/sqlite/deliveries.py",
                '"UPDATE message SET due = ?,',
                '"UPDATE message SET score = 4e9, due = ?,',
            ),
        ),
    ),
    Mutant(
        "a late reschedule changes nothing",
        "unknown_tasks late_reschedule or lost_reply",
        instead=(
            ("engine/broker/lua/defer.lua", "held.consumer ~= consumer or held.delivery ~= delivery", "false"),
            (
                "engine/broker/sqlite/deliveries.py",
                "AND state = 'held' AND consumer = ? AND deliveries = ?\n",
                "AND state = 'held' AND ? <> '' AND ? > 0\n",
            ),
        ),
    ),
    Mutant(
        "a re-queued run has a fresh grace",
        "unknown_tasks requeued_unknown_task",
        instead=(
            ("engine/broker/lua/requeue_dead.lua", "'deaths', 'cancel', 'met', 'met_at')", "'deaths', 'cancel')"),
            ("engine/broker/sqlite/dead_letters.py", '"met_at = NULL WHERE queue', '"cancel = NULL WHERE queue'),
        ),
    ),
    Mutant(
        "a run that newer code has begun has a fresh grace",
        "unknown_tasks claimed_by_newer_code",
        instead=(
            ("engine/broker/lua/lib/claim.lua", "    call('hdel', run(id), 'met', 'met_at')\n", ""),
            ("engine/broker/lua/release.lua", "; call('hdel', run(id), 'met', 'met_at')", ""),
            ("engine/broker/sqlite/claims.py", "missing = NULL, met = NULL, met_at = NULL", "missing = NULL"),
            ("engine/broker/sqlite/deliveries.py", 'worker = NULL, met_at = NULL "', 'worker = NULL "'),
        ),
    ),
    Mutant(
        "a reschedule does not count as a start",
        "unknown_tasks not_recorded_as_a_start",
        instead=(("engine/history/event_handlers.py", "run.update(before, state=", "run.update(state="),),
    ),
    Mutant(
        "a file of the previous version gets the new columns",
        "unknown_tasks previous_version",
        instead=(("engine/broker/sqlite/database.py", "            self.add_columns(connection)\n", ""),),
    ),
    Mutant(
        "an event that cannot be written is set aside",
        "rejected_events unparseable or row_refused_by_the_database or refused_rows",
        instead=(
            ("engine/history/writer.py", "        if not is_refusal(error):\n            raise", "        raise"),
        ),
    ),
    Mutant(
        "history continues after rows that the database refuses",
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
rejected.is_refusal = rejected.write_each.__globals__["is_refusal"] = is_refusal
""",
    ),
    Mutant(
        "history continues after a rejected event that cannot be listed",
        "rejected_events cannot_be_stored",
        instead=(
            ("engine/history/rejected.py", "        if not is_refusal(refusal):\n            raise", "        raise"),
        ),
    ),
    Mutant(
        "rejected events are pruned",
        "rejected_events kept_as_long",
        "engine/history/rejected.py",
        "delete_older = lambda before: None",
    ),
    Mutant(
        "the recorder survives an exception",
        "loops all_its_loops",
        instead=(("engine/history/recorder.py", "except Exception as error", "except ZeroDivisionError as error"),),
    ),
    Mutant(
        "the scheduler survives an exception",
        "loops all_its_loops",
        instead=(
            (
                "engine/worker/scheduler.py",
                "        except Exception as error:\n            self.back_off",
                "        except ZeroDivisionError as error:\n            self.back_off",
            ),
        ),
    ),
    Mutant(
        "a consumer survives an exception",
        "loops all_its_loops",
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
        "loops ended_recorder",
        instead=(
            ("engine/worker/scheduler.py", "if self.recorder and self.recorder.is_alive():", "if self.recorder:"),
        ),
    ),
    Mutant(
        "a schedule that raises does not delay others",
        "loops raising_schedule",
        instead=(
            (
                "engine/worker/worker.py",
                "    except Exception as error:\n        return error",
                "    except KeyError as error:\n        return error",
            ),
        ),
    ),
    Mutant(
        "the log line sender survives an exception",
        "loops log_sender",
        instead=(("engine/queues/log_capture.py", "        return error", "        raise SystemExit from error"),),
    ),
    Mutant(
        "the request counter survives an exception",
        "loops request_counter",
        instead=(("admin/api/request_metrics.py", "self.back_off.failed(error)", "raise SystemExit from error"),),
    ),
    Mutant(
        "the watcher survives an exception",
        "loops watcher_continues",
        instead=(
            (
                "admin/alerts/watcher.py",
                "except Exception as error:\n            self.watching",
                "except KeyError as error:\n            self.watching",
            ),
        ),
    ),
    Mutant(
        "a notice that cannot be rendered is not sent",
        "loops cannot_be_rendered",
        instead=(("admin/alerts/channels.py", "    except Exception as error:", "    except OSError as error:"),),
    ),
    Mutant(
        "the supervisor survives an exception",
        "loops supervisor_continues",
        instead=(("admin/cli/supervisor.py", "except Exception as error", "except KeyError as error"),),
    ),
    Mutant(
        "a malformed heartbeat is skipped",
        "malformed_entries malformed_heartbeat",
        instead=(
            (
                "engine/broker/heartbeats.py",
                '    except PARSE_ERRORS:\n        log_malformed("heartbeat"',
                '    except ZeroDivisionError:\n        log_malformed("heartbeat"',
            ),
        ),
    ),
    Mutant(
        "a malformed pause is readable",
        "malformed_entries malformed_pause",
        instead=(("engine/broker/pauses.py", '    return defaults | {"by": "?"', '    return defaults | {"who": "?"'),),
    ),
    Mutant(
        "a malformed order is removed",
        "malformed_entries malformed_command",
        instead=(("engine/queues/remote_control.py", "    for what in stored:", "    for what in ():"),),
    ),
    Mutant(
        "a malformed stack dump is ignored",
        "malformed_entries malformed_stack_dump",
        instead=(("engine/queues/remote_control.py", "except PARSE_ERRORS:", "except ZeroDivisionError:"),),
    ),
    Mutant(
        "a run with an unreadable holder is returned",
        "malformed_entries run_with_an_unreadable_holder",
        instead=(
            (
                "engine/broker/redis/deliveries.py",
                "        self.requeue_unreadable({run_id for run_id, _ in entries} - {run.run_id for run in held})\n",
                "",
            ),
        ),
    ),
    Mutant(
        "a malformed lock has no holder",
        "malformed_entries malformed_lock and garbage",
        instead=(("engine/broker/lua/lib/locks.lua", "pcall(cjson.decode, raw)", "true, cjson.decode(raw)"),),
    ),
    Mutant(
        "a run that is missing from the broker is found",
        "lost_runs lost_with_the_broker or in_batches",
        "engine/history/lost_runs.py",
        "LostRunCheck.check = lambda self: None",
    ),
    Mutant(
        "a run in the broker is not lost",
        "lost_runs in_the_broker",
        "messages",
        """
from engine.broker.effects import Effects, event_json
def report_lost(self, ids):
    for run_id in ids:
        self.write(Effects().event(event_json("lost", run_id, time.time())))
Part.report_lost = report_lost
""",
    ),
    Mutant(
        "a run that has ended is not lost",
        "lost_runs not_yet_in_the_database",
        instead=(("engine/history/event_handlers.py", 'if run and run["state"] not in ENDED:', "if run:"),),
    ),
    Mutant(
        "history lag makes the service unready",
        "history_lag five_minutes",
        "engine/monitor/status.py",
        "behind_queues = lambda queues: []",
    ),
]


if __name__ == "__main__":
    sys.exit(main(MUTANTS, sys.argv[1:]))
