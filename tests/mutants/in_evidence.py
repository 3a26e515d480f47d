"""Faults in the evidence: origin, text, remarks, erasure and offline verification."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

_ADMISSION: Final = "worker/domain/admission.py"
_DEAD_LETTER: Final = "worker/domain/dead_letter.py"
_DOCUMENT: Final = "worker/operations/evidence/document.py"
_EDIT: Final = "worker/operations/dead_letters/edit.py"
_ERASURE: Final = "worker/operations/evidence/erasure.py"
_EVIDENCE: Final = "worker/domain/evidence.py"
_POLICY: Final = "worker/domain/policy.py"
_RECORD: Final = "worker/pipeline/record.py"
_SENTENCES: Final = "worker/operations/evidence/sentences.py"
_TEXTS: Final = "worker/repository/texts.py"
_VERIFICATION: Final = "worker/operations/evidence/verification.py"
_ADMISSION_TESTS: Final = ("tests/unit/domain/test_admission.py",)
_EDIT_TESTS: Final = ("tests/unit/operations/dead_letters/test_edit.py",)
_ERASURE_TESTS: Final = ("tests/unit/operations/evidence/test_erasure.py",)
_EVIDENCE_TESTS: Final = ("tests/unit/domain/test_evidence.py",)
_EXPORT_TESTS: Final = ("tests/evidence/test_export.py",)
_LETTER_TESTS: Final = ("tests/unit/domain/test_dead_letter.py",)
_ORIGIN_TESTS: Final = ("tests/unit/domain/test_origin.py",)
_RECORD_TESTS: Final = ("tests/unit/pipeline/test_record.py",)
_SENTENCES_TESTS: Final = ("tests/unit/operations/evidence/test_sentences.py",)
_TEXT_TESTS: Final = ("tests/unit/repository/test_texts.py",)
_VERIFICATION_TESTS: Final = ("tests/unit/operations/evidence/test_verification.py",)

_RECORDING: Final = (
    Mutant(
        "a value moved into its salt passes as evidence",
        _EVIDENCE,
        "len(bytes(salt)) != _SALT_BYTES",
        "False",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a salt without a commitment passes as evidence",
        _EVIDENCE,
        'yield f"{name}_salt has no commitment"',
        "pass",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a record that has no hash passes with an empty one",
        _EVIDENCE,
        "        return None\n",
        '        return ""\n',
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a commitment does not separate the name from the value",
        _EVIDENCE,
        'name.encode() + b"\\0"',
        "name.encode()",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a record lacks the language of its text",
        _EVIDENCE,
        "if text.locale:",
        "if False:",
        _EVIDENCE_TESTS,
    ),
    Mutant(
        "a record lacks the time of its replay",
        _DEAD_LETTER,
        "replayed_at=_parsed(history.at),",
        "replayed_at=None,",
        _LETTER_TESTS,
    ),
    Mutant(
        "an origin with a lone surrogate is not recorded",
        _DEAD_LETTER,
        'text.encode(errors="replace").decode()',
        "text",
        _ORIGIN_TESTS,
    ),
    Mutant(
        "an origin before the year 1 is not recorded",
        _DEAD_LETTER,
        "parse_time(text).astimezone(UTC)",
        "parse_time(text)",
        _ORIGIN_TESTS,
    ),
    Mutant(
        "an origin fills the cache of times",
        _DEAD_LETTER,
        "if len(text) > _NAME_MAX_CHARACTERS:",
        "if False:",
        _ORIGIN_TESTS,
    ),
    Mutant(
        "an origin exceeds its record",
        _DEAD_LETTER,
        "text = str(value)[:_NAME_MAX_CHARACTERS]",
        "text = str(value)",
        _ORIGIN_TESTS,
    ),
    Mutant(
        "the cached version is not rechecked for a text in the stated language",
        _RECORD,
        "isinstance(admitted, Outcome) or not admission.is_final(acceptance, admitted)",
        "isinstance(admitted, Outcome)",
        _RECORD_TESTS,
    ),
    Mutant(
        "every message rechecks its cached version",
        _ADMISSION,
        "    return language_tag(acceptance.locale) == language_tag(admitted.locale)",
        "    return False",
        _ADMISSION_TESTS,
    ),
    Mutant(
        "a stated hash is rechecked for its language",
        _ADMISSION,
        "if acceptance.content_sha256 is not None or not acceptance.locale:",
        "if not acceptance.locale:",
        _ADMISSION_TESTS,
    ),
    Mutant(
        "a language is not shortened (RFC 4647)",
        _POLICY,
        'tag = _SHORTENED.sub("", tag)',
        'tag = ""',
        _ADMISSION_TESTS,
    ),
    Mutant(
        "a language is shortened to a single letter (RFC 4647)",
        _POLICY,
        '"(^|(-[^-])?-)[^-]*$"',
        '"(^|-)[^-]*$"',
        _ADMISSION_TESTS,
    ),
    Mutant(
        "a language is compared with its case (RFC 4647)",
        _POLICY,
        'locale.replace("_", "-").lower()',
        'locale.replace("_", "-")',
        _ADMISSION_TESTS,
    ),
    Mutant(
        "the default text is preferred to that in the language",
        _POLICY,
        "if tag in others:",
        "if False:",
        _ADMISSION_TESTS,
    ),
    Mutant(
        "another content is accepted under the hash of a text",
        _TEXTS,
        "if inserted is Inserted.EXISTS:",
        "if False:",
        _TEXT_TESTS,
    ),
)

_VERIFYING: Final = (
    Mutant(
        "an edit has no remark",
        _VERIFICATION,
        "        *edits(item),\n",
        "",
        _VERIFICATION_TESTS,
    ),
    Mutant(
        "contradictory times have no remark",
        _VERIFICATION,
        "        *_contradictory_times(item, clock_skew_seconds),\n",
        "",
        _VERIFICATION_TESTS,
    ),
    Mutant(
        "an acceptance outside the time of the version has no remark",
        _VERIFICATION,
        "        *_outside_the_policy(item, policy, clock_skew_seconds),\n",
        "",
        _VERIFICATION_TESTS,
    ),
    Mutant(
        "a text that is not stored has no remark",
        _VERIFICATION,
        "if policy is not None and content is None:",
        "if False:",
        _VERIFICATION_TESTS,
    ),
    Mutant(
        "a remark makes a record altered",
        _VERIFICATION,
        "return Verdict.SOUND_WITH_REMARKS if self.remarks else",
        "return Verdict.ALTERED if self.remarks else",
        _VERIFICATION_TESTS,
    ),
    Mutant(
        "a text with another hash passes as evidence",
        _VERIFICATION,
        "content.sha256 != sha256:",
        "False:",
        _VERIFICATION_TESTS,
    ),
    Mutant(
        "the hash of an unpublished text passes as evidence",
        _VERIFICATION,
        "return TextCheck.MATCHES if sha256 in published else TextCheck.DIFFERS",
        "return TextCheck.MATCHES",
        _VERIFICATION_TESTS,
    ),
    Mutant(
        "unreadable edits end the verification",
        _SENTENCES,
        "KeyError, RecursionError):",
        "KeyError):",
        _SENTENCES_TESTS,
    ),
    Mutant(
        "offline verification ignores the hash of a text",
        _DOCUMENT,
        "        if text.sha256 != sha256\n",
        "        if False\n",
        _EXPORT_TESTS,
    ),
    Mutant(
        "offline verification ignores a removed record",
        _DOCUMENT,
        'if content.get("records_count") != len(entries):',
        "if False:",
        _EXPORT_TESTS,
    ),
    Mutant(
        "offline verification ignores a record of another user",
        _DOCUMENT,
        'item.get("user_id") == user_id',
        "True",
        _EXPORT_TESTS,
    ),
    Mutant(
        "offline verification ignores another policy",
        _DOCUMENT,
        '"the policy is another one": named == key',
        '"the policy is another one": True',
        _EXPORT_TESTS,
    ),
    Mutant(
        "offline verification ignores which values are binary",
        _DOCUMENT,
        "bytes.fromhex(value) if name in binary else value",
        "bytes.fromhex(value) if name in evidence.BINARY else value",
        _EXPORT_TESTS,
    ),
    Mutant(
        "an export turns a value of another type into text",
        _DOCUMENT,
        "{**readable(item), **_of_other_types(item)}",
        "readable(item)",
        _EXPORT_TESTS,
    ),
    Mutant(
        "an erased value in an unknown field is not reported",
        _ERASURE,
        '    others.append(_usual_json(item.get("extra")))\n',
        "",
        _ERASURE_TESTS,
    ),
    Mutant(
        "a duration without hours has days and minutes",
        _SENTENCES,
        "        elif words:\n            break\n",
        "",
        _SENTENCES_TESTS,
    ),
    Mutant(
        "an edit that changes only the digits of a number is not reported",
        _EDIT,
        "json.loads(text, parse_float=_Number, parse_int=_Number)",
        "json.loads(text)",
        _EDIT_TESTS,
    ),
)

MUTANTS: Final = (*_RECORDING, *_VERIFYING)
