import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fulfillment.doctor import examine
from fulfillment.doctor.findings import Finding, Level


class Command(BaseCommand):
    help = "Prove the configuration: settings, database, spool, worker, Stripe, and each tenant."
    # It reports these itself.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.add_argument(
            "--no-self-test", action="store_true", help="send no event to ALLEGRO_URL"
        )

    def handle(self, *, no_self_test: bool, **options: Any) -> None:
        findings = []
        for finding in examine(with_self_test=not no_self_test):
            findings.append(finding)
            if not options["json"]:
                self._print(finding)
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=2))
        problems = sum(finding.level == Level.PROBLEM for finding in findings)
        if problems:
            raise CommandError(f"{problems} problems.")

    def _print(self, finding: Finding) -> None:
        styles = {
            Level.OK: self.style.SUCCESS,
            Level.WARNING: self.style.WARNING,
            Level.PROBLEM: self.style.ERROR,
        }
        level = styles[finding.level](f"{finding.level:8}")
        self.stdout.write(f"{level} {finding.about}: {finding.message}")
        if finding.remedy:
            self.stdout.write(f"{'':8} {finding.remedy}")
