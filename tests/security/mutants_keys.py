"""The controls of SECRET_KEY, each taken out."""

from mutation import Mutant

MUTANTS = [
    Mutant(
        "a secret key has 32 characters",
        "keys weak_key and short",
        instead=(("config.py", "if len(value) < 32:", "if len(value) < 8:"),),
    ),
    Mutant(
        "a secret key has 10 different characters",
        "keys weak_key and nine_letters",
        instead=(("config.py", "if len(set(value)) < 10:", "if len(set(value)) < 2:"),),
    ),
    Mutant(
        "a secret key is not one piece repeated",
        "keys weak_key and (repeated or cut_off)",
        instead=(("config.py", "range(1, len(value) // 2 + 1)", "range(0)"),),
    ),
    Mutant(
        "a secret key is not one piece repeated and cut off",
        "keys weak_key and cut_off",
        instead=(
            (
                "config.py",
                "value[length:] == value[:-length]",
                "len(value) % length == 0 and value[length:] == value[:-length]",
            ),
        ),
    ),
    Mutant(
        "a secret key is no published example",
        "keys weak_key and (Flask or FastAPI)",
        instead=(("config.py", "value.lower() in PUBLISHED_KEYS or ", ""),),
    ),
    Mutant(
        "a secret key is no placeholder",
        "keys weak_key and (placeholder or capitals or Django)",
        instead=(("config.py", " or PLACEHOLDER.search(value.lower())", ""),),
    ),
    Mutant(
        "the embedded key is as strong",
        "keys weak_key",
        instead=(("config.py", "        parse_secret_key(key)\n", "        pass\n"),),
    ),
    Mutant(
        "a former key is not empty",
        "keys empty_former_key",
        instead=(("config.py", "if not all(keys):", "if False:"),),
    ),
    Mutant(
        "a former key is never printed",
        "keys never_printed and rex",
        instead=(("config.py", '("SECRET_KEY", "SECRET_KEY_OLD", "ALERT', '("SECRET_KEY", "ALERT'),),
    ),
    Mutant(
        "each purpose has a separate key",
        "keys separate_key or another_purpose",
        instead=(("engine/keys.py", 'b"dewey broker " + purpose', 'b"dewey broker "'),),
    ),
    Mutant(
        "cookies are signed with the new key",
        "keys new_cookie_and_form",
        instead=(("app.py", "app.secret_key, *former_keys =", "*former_keys, app.secret_key ="),),
    ),
    Mutant(
        "forms are signed with the new key",
        "keys new_cookie_and_form",
        instead=(("app.py", '*reversed(derive_keys(b"forms"))', '*derive_keys(b"forms")'),),
    ),
    Mutant(
        "a sign-in survives a new key",
        "keys sign_in_and_open_form",
        instead=(("app.py", "[*former_keys, *raw_keys],", "raw_keys,"),),
    ),
    Mutant(
        "a message survives a new key",
        "keys waiting_and_scheduled",
        instead=(
            ("engine/broker/signed_entries.py", "settings.secret_key, settings.secret_key_old", "settings.secret_key"),
        ),
    ),
    Mutant(
        "a message is signed with the new key",
        "keys new_key_alone",
        instead=(("engine/broker/signing.py", "self.keys[purpose.word][0]", "self.keys[purpose.word][-1]"),),
    ),
    Mutant(
        "the audit accepts former keys",
        "audit_keys three_keys",
        instead=(("admin/audit_log.py", "return derive_keys(hash_chain.PURPOSE)", "return derive_keys(b'audit')[:1]"),),
    ),
    Mutant(
        "a former key adds no audit entries",
        "audit_keys cannot_add_rows",
        "admin/audit_log.py",
        "KeyOrder.accept = lambda self, key: True",
    ),
    Mutant(
        "a former key seals the end of its own entries only",
        "audit_keys hide_a_truncation",
        instead=(("admin/audit_log.py", "return key == 0 or (key", "return key is not None or (key"),),
    ),
    Mutant(
        "a stored response is authenticated",
        "kept_answers (changed_kept_answer and not no_number) or belongs_to",
        instead=(
            ("engine/sealing.py", "AESGCM(derive_keys(purpose)[0]).encrypt(nonce, text, context)", "text"),
            (
                "engine/sealing.py",
                "AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)",
                "sealed[NONCE_BYTES:]",
            ),
        ),
    ),
    Mutant(
        "a stored response is encrypted",
        "idempotency contains_no_secret",
        instead=(
            ("admin/api/idempotency.py", "seal(PURPOSE, response.get_data(), seal_context(record))", "response.data"),
            (
                "admin/api/idempotency.py",
                'unseal(PURPOSE, bytes.fromhex(record.body or ""), seal_context(record))',
                'bytes.fromhex(record.body or "")',
            ),
        ),
    ),
    Mutant(
        "a stored response belongs to its requester, key and request",
        "kept_answers belongs_to or status or content_type",
        "admin/api/idempotency.py",
        "seal_context = lambda record: b''",
    ),
    Mutant(
        "a stored response survives a new key",
        "kept_answers replayed_under",
        instead=(("engine/sealing.py", "for key in derive_keys(purpose):", "for key in derive_keys(purpose)[:1]:"),),
    ),
    Mutant(
        "no nonce is used twice",
        "kept_answers second_nonce",
        instead=(("engine/sealing.py", "os.urandom(NONCE_BYTES)", "bytes(NONCE_BYTES)"),),
    ),
]
