"""Validate a crate with ``roc-validator`` where there is no network: ``python validate.py CONTEXT CRATE``.

The validator reads the JSON-LD context of RO-Crate 1.1 from its address. The library that writes the crate ships that
of a later version, which is given in its place with the one term that has moved since; any other address is refused,
so that nothing is validated by half.
"""

from __future__ import annotations

import io
import json
import sys
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any, ClassVar
from urllib.error import URLError
from urllib.response import addinfourl

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
PROFILE = "workflow-run-crate"
#: Terms of RO-Crate 1.1 that later versions spell differently.
AS_IN_1_1 = {"https://bioschemas.org/terms/ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow"}


class Answer:
    """What the validator asks of an answer of its library for HTTP."""

    status_code = 200
    ok = True
    headers: ClassVar = {"Content-Type": "application/ld+json"}

    def __init__(self, document: bytes) -> None:
        self.content = document
        self.text = document.decode()

    def json(self) -> Any:
        return json.loads(self.content)


def serve_context(document: bytes) -> None:
    """Let the one address that the validator reads be answered from a file."""

    def opened(request: Any, *_: Any, **__: Any) -> addinfourl:
        address = request if isinstance(request, str) else request.full_url
        if address.partition("#")[0] != CONTEXT:
            raise URLError(f"no network: {address}")
        headers = Message()
        headers["Content-Type"] = "application/ld+json"
        return addinfourl(io.BytesIO(document), headers, address, 200)

    urllib.request.urlopen = opened


def context_of_1_1(path: Path) -> bytes:
    text = path.read_text(encoding="utf-8")
    for later, earlier in AS_IN_1_1.items():
        assert later in text, later
        text = text.replace(later, earlier)
    return text.encode()


def main() -> int:
    context, crate = map(Path, sys.argv[1:])
    # Before the validator is imported: its parser takes the function by name.
    document = context_of_1_1(context)
    serve_context(document)
    from rocrate_validator import services
    from rocrate_validator.models import Severity, ValidationSettings
    from rocrate_validator.utils.http import HttpRequester

    def got(_: Any, address: str, **__: Any) -> Answer:
        if address != CONTEXT:
            raise URLError(f"no network: {address}")
        return Answer(document)

    HttpRequester.get = got

    settings = ValidationSettings(
        rocrate_uri=str(crate), profile_identifier=PROFILE, requirement_severity=Severity.REQUIRED
    )
    found = services.validate(settings)
    for issue in found.get_issues():
        sys.stdout.write(f"{issue.severity.name} {issue.check.identifier}: {issue.message}\n")
    checks = len(found.executed_checks)
    sys.stdout.write(f"{PROFILE}: {checks} checks, {len(found.get_issues())} issues\n")
    return 1 if found.has_issues() or not checks else 0


if __name__ == "__main__":
    sys.exit(main())
