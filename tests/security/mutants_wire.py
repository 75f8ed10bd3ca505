"""The controls of the broker's values, taken out one by one."""

from mutation import Mutant

EVENTS, HANDLERS = "engine/history/events.py", "engine/history/event_handlers.py"
SIGNING, REPLAYS = "engine/broker/signing.py", "engine/queues/replays.py"
REMOTE, CLAIM = "engine/queues/remote_control.py", "engine/queues/claim.py"

MUTANTS = [
    Mutant(
        "an event without a signature is no history",
        "broker_forgery forged_run and sqlite",
        EVENTS,
        "EventReader.accepts_unsigned = lambda self, position: True",
    ),
    Mutant(
        "the signature of an event is checked",
        "broker_forgery real_run and sqlite",
        instead=((SIGNING, "if hmac.compare_digest(signature, signature_of(key, header, body)):", "if True:"),),
    ),
    Mutant(
        "the message of a new run is checked where it is recorded",
        "broker_forgery foreign_key and sqlite",
        instead=(
            (
                EVENTS,
                "body = keyring.open(purpose, self.queue.storage.entries.events, line)",
                "body = parse_body(line)",
            ),
        ),
    ),
    Mutant(
        "a value is bound to its queue and key",
        "broker_forgery (another_queue or command_of_another) and sqlite",
        SIGNING,
        "place_bytes = lambda place: b''",
    ),
    Mutant(
        "a value is bound to its purpose",
        "broker_signing one_purpose",
        SIGNING,
        "check_word = lambda word, expected: None",
    ),
    Mutant(
        "each purpose has its own key",
        "broker_signing key_of_its_own",
        instead=((SIGNING, 'keys(VERSION + b" " + purpose.word)', "keys(VERSION)"),),
    ),
    Mutant(
        "a copied end of a delivery changes no record",
        "broker_forgery copied and sqlite",
        instead=((HANDLERS, 'event["delivery"] < run["deliveries"] or (', "False and ("),),
    ),
    Mutant(
        "an ended run does not die by what lies under its id",
        "broker_forgery ended_run and sqlite",
        HANDLERS,
        "EventBatch.open_run = EventBatch.run",
    ),
    Mutant(
        "a command holds once",
        "broker_forgery holds_once and sqlite",
        instead=((REMOTE, " and order.number not in self.taken", ""),),
    ),
    Mutant(
        "a command holds for a minute",
        "broker_forgery for_a_minute and sqlite",
        instead=((REMOTE, "abs(now - order.sent_at) <= ORDER_SECONDS", "True"),),
    ),
    Mutant(
        "a settled message does not run again in its consumer",
        "broker_forgery before_its_end and sqlite",
        REPLAYS,
        "SharedSet.has = lambda self, run_id, number: False",
    ),
    Mutant(
        "a settled message does not run again in another consumer",
        "broker_forgery does_not_run_again and sqlite-True-True",
        REPLAYS,
        "select_recorded_runs = lambda ids: {}",
    ),
    Mutant(
        "a mark in the broker stops a settled message",
        "broker_forgery mark_in_the_broker and sqlite",
        instead=((REPLAYS, "if taken.is_marked and self", "if False and self"),),
    ),
    Mutant(
        "a message runs under its own id only",
        "broker_forgery message_under_another_id and sqlite",
        instead=((CLAIM, "if task.id != taken.run_id:", "if False:"),),
    ),
    Mutant(
        "a cancel names its requester only if it is signed",
        "broker_forgery forged_cancel and sqlite",
        "engine/broker/signed_entries.py",
        "SignedEntries.canceller = lambda self, run_id, line: line if isinstance(line, str) else line.decode()",
    ),
    Mutant(
        "a heartbeat is signed",
        "broker_forgery heartbeat and sqlite",
        "engine/broker/signed_entries.py",
        """
def read(self, purpose, key, raw):
    data = raw.encode() if isinstance(raw, str) else raw
    return json.loads(data[data.index(b"{"):])
SignedEntries.read = read
""",
    ),
    Mutant(
        "old values end some time after the upgrade",
        "broker_signing old_format_is_accepted and False",
        SIGNING,
        "Keyring.open_old = lambda self, purpose, place, words, accepts_old: words[6]",
    ),
    Mutant(
        "the position of the stream is noted at the upgrade",
        "broker_forgery before_the_upgrade and sqlite",
        "engine/history/upgrade.py",
        "note_upgrade = lambda queue: None",
    ),
    Mutant(
        "a stream with another name needs signatures",
        "broker_forgery new_stream and sqlite",
        instead=(("engine/history/writer.py", "position=0, signed_from=0", "position=0"),),
    ),
    Mutant(
        "forged values are reported in the audit log",
        "broker_forgery one_audit_entry and sqlite",
        instead=(("admin/alerts/watcher.py", 'if signal.rule == "forged":', "if False:"),),
    ),
    Mutant(
        "a stream whose positions were moved is renewed",
        "moved_entries history or last_possible",
        "engine/history/forged_entries.py",
        "ForgedEntryCheck.renew_stream = lambda self: None",
    ),
    Mutant(
        "a run without a place in the broker is lost",
        "moved_entries without_a_place",
        instead=(
            ("engine/broker/lua/report_lost.lua", "if not has_place(id) then", "if call('exists', run(id)) == 0 then"),
            ("engine/broker/sqlite/messages.py", "state IN ({PLACES}) AND", "state <> 'done' AND"),
        ),
    ),
    Mutant(
        "a number of deliveries that a script cannot count is none",
        "malformed_numbers repeat_a_run and redis and 1e300",
        instead=(
            (
                "engine/broker/lua/lib/common.lua",
                "return text and #text < 10 and match(text, '^%d+$') and tonumber(text)",
                "return tonumber(text)",
            ),
        ),
    ),
    Mutant(
        "a holder has numbers that JSON and the database can hold",
        "malformed_numbers holder and redis and 9999",
        "engine/broker/parsing.py",
        "parse_count = int",
    ),
    Mutant(
        "a counter that is no number does not stop history",
        "malformed_numbers counter and (redis-1e300 or sqlite-x)",
        instead=(
            ("engine/broker/redis/results.py", "except ResponseError:", "except ZeroDivisionError:"),
            ("engine/broker/sqlite/results.py", "SELECT CAST(value AS INTEGER) FROM", "SELECT value FROM"),
        ),
    ),
    Mutant(
        "a stream has a name of ours",
        "malformed_numbers name_of_the_stream",
        "engine/broker/parsing.py",
        "is_stream_name = lambda name: True",
    ),
    Mutant(
        "a time of death can be shown",
        "malformed_numbers time_of_death",
        "engine/broker/parsing.py",
        "clamp_timestamp = lambda value: value",
    ),
    Mutant(
        "no number ends the reaping of lost consumers",
        "malformed_numbers patience and 32000000000",
        instead=(
            ("engine/broker/lua/reap.lua", "and patience <= now + lease", ""),
            ("engine/broker/sqlite/deliveries.py", "if patience <= now + lease else 0.0", ""),
        ),
    ),
    Mutant(
        "a key of the wrong type is set aside",
        "wrong_types does_not and stream",
        instead=(("engine/broker/redis/client.py", "if is_wrong_type(error):", "if False:"),),
    ),
    Mutant(
        "a claim reads values with the types of the schema",
        "wrong_columns message_with and data",
        instead=(("engine/broker/sqlite/claims.py", "CAST(data AS BLOB), max", "data, max"),),
    ),
    Mutant(
        "a pause of a target that is no text stops nothing",
        "wrong_columns other_rows and ff",
        instead=(("engine/broker/sqlite/pauses.py", "CAST(target AS TEXT), CAST(info AS TEXT)", "target, info"),),
    ),
    Mutant(
        "a missing table is made again",
        "wrong_columns missing_table and pause",
        instead=(("engine/broker/sqlite/database.py", " or self.missing_tables(connection)", ""),),
    ),
    Mutant(
        "heartbeats are written during a flood of forged events",
        "moved_entries flood and sqlite",
        "engine/history/recorder.py",
        "SYNC_BATCHES = writer.MOST_BATCHES",
    ),
]
