"""docs/prometheus-rules.yml and docs/grafana-dashboard.json use only metrics and labels of /metrics."""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import skip_or_fail
from factories import create_consumer, create_run
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

import tasks
from config import ROOT
from engine.database import database
from engine.history import run_counts
from engine.models import Tick, now

RULES = yaml.safe_load((ROOT / "docs" / "prometheus-rules.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())
EXPRESSIONS = [rule["expr"] for rule in RULES]
EXPRESSIONS += [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

#: The parts of an expression: each metric with its matchers, and the labels of sums and joins.
METRIC = re.compile(r"\b(dewey_\w+)(?:\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")

#: Prometheus's evaluation of these rules, minute by minute.
UNIT_TESTS: dict[str, Any] = {
    "rule_files": ["rules.yml"],
    "evaluation_interval": "1m",
    "tests": [
        {
            "interval": "1m",
            "input_series": [
                {"series": "dewey_build_info", "values": "1x120"},
                {"series": 'dewey_up{part="broker"}', "values": "1x10 0x110"},
                {"series": 'dewey_queue_unserved{queue="light"}', "values": "0x10 1x110"},
                {"series": 'dewey_queue_oldest_seconds{queue="light"}', "values": "0x10 1000x110"},
                {"series": 'dewey_queue_oldest_seconds{queue="heavy"}', "values": "0x10 1000x110"},
                {"series": 'dewey_queue_paused{queue="light"}', "values": "0x120"},
                {"series": 'dewey_queue_paused{queue="heavy"}', "values": "1x120"},
                {"series": 'dewey_runs_ended_total{task="a",queue="light",state="succeeded"}', "values": "0+3x120"},
                {"series": 'dewey_runs_ended_total{task="a",queue="light",state="failed"}', "values": "0+1x120"},
                {"series": 'dewey_runs_ended_total{task="b",queue="light",state="succeeded"}', "values": "0+9x120"},
                {"series": 'dewey_runs_ended_total{task="b",queue="light",state="failed"}', "values": "0+1x120"},
                {"series": "dewey_recorder_dropped_events_total", "values": "0x50 7x70"},
                {"series": 'dewey_sessions{state="abandoned"}', "values": "5000x120"},
            ],
            "alert_rule_test": [
                {"eval_time": "9m", "alertname": "DeweyQueueUnserved", "exp_alerts": []},
                *(
                    {
                        "eval_time": "70m",
                        "alertname": name,
                        "exp_alerts": [{"exp_labels": {"severity": severity, **labels}}],
                    }
                    for name, severity, labels in (
                        ("DeweyQueueUnserved", "critical", {"queue": "light"}),
                        ("DeweyPartAway", "critical", {"part": "broker"}),
                        ("DeweyRunWaitsLong", "warning", {"queue": "light"}),
                        ("DeweyTaskFails", "warning", {"task": "a"}),
                        ("DeweyHistoryIncomplete", "warning", {}),
                        ("DeweySessionsPileUp", "warning", {"state": "abandoned"}),
                    )
                ),
                {"eval_time": "70m", "alertname": "DeweyAway", "exp_alerts": []},
                {"eval_time": "70m", "alertname": "DeweyDeadRuns", "exp_alerts": []},
            ],
        }
    ],
}


@pytest.fixture
def scraped(app: Flask) -> dict[str, set[str]]:
    """Return each sample of a real scrape with its labels, after all kinds of events have happened."""
    for queue in tasks.queues:
        create_consumer(queue)
    for state in ("succeeded", "failed"):
        run_counts.increment(
            Counter(run_counts.counter_keys(create_run(state=state, ended_at=now(), wait_ms=3.0, run_ms=4.0)))
        )
    tasks.get_cleanup_statistics(hours=3)
    tasks.light.storage.deliveries.settle_and_claim("c1", "Worker-1", False, "{}")
    Tick.create(task="close_abandoned_sessions", due_at=now(), queue="light", state="missed", seen_at=now())
    client = app.test_client()
    client.get("/healthz")
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    tasks.light.storage.deliveries.release("c1", "Worker-1", "the test is over", 9)
    return samples


def test_queried_metrics_and_labels_are_exported(scraped: dict[str, set[str]]) -> None:
    for expression in EXPRESSIONS:
        queries = METRIC.findall(expression)
        assert queries or "dewey:" in expression, expression
        labels: set[str] = set()
        for name, matchers in queries:
            assert name in scraped, f"{name} is not in /metrics: {expression}"
            assert set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", matchers)) <= scraped[name], expression
            labels |= scraped[name]
        for grouped in GROUPING.findall(expression):
            assert {label.strip() for label in grouped.split(",")} <= labels, expression


def test_exported_metrics_are_queried(scraped: dict[str, set[str]]) -> None:
    queried = {name for expression in EXPRESSIONS for name, _ in METRIC.findall(expression)}
    left = {name for name in scraped if not name.endswith(("_sum", "_count"))} - queried
    assert left == {"dewey_queue_scheduled"}


def test_alert_rules_have_unique_names_severity_and_summary() -> None:
    names = [rule["alert"] for rule in RULES if "alert" in rule]
    assert len(names) == len(set(names)) >= 12
    for rule in RULES:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning")
            assert rule["annotations"]["summary"].endswith(".")


def test_dashboard_panels_do_not_overlap_and_have_ids() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 15
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


# --- evaluated by Prometheus ---------------------------------------------------------------------------------


@pytest.fixture
def promtool() -> str:
    return shutil.which("promtool") or skip_or_fail("no promtool: it comes with Debian's package prometheus")


def run_checked(command: list[str], typed: str = "") -> None:
    done = subprocess.run(command, input=typed, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules_and_their_unit_tests(promtool: str, tmp_path: Path) -> None:
    rules = (ROOT / "docs" / "prometheus-rules.yml").read_text()
    run_checked([promtool, "check", "rules", str(ROOT / "docs" / "prometheus-rules.yml")])
    # The annotations are not compared, only the alerts that fire.
    (tmp_path / "rules.yml").write_text(re.sub(r"\n +annotations: .*", "", rules))
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(UNIT_TESTS))
    run_checked([promtool, "test", "rules", str(tmp_path / "tests.yml")])


def test_promtool_accepts_every_dashboard_expression(promtool: str, tmp_path: Path) -> None:
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    rules = [{"record": f"dashboard:{number}", "expr": expr} for number, expr in enumerate(targets)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run_checked([promtool, "check", "rules", str(tmp_path / "rules.yml")])


def test_promtool_accepts_a_scrape(promtool: str, app: Flask) -> None:
    with database.atomic():
        run_counts.increment(Counter(run_counts.counter_keys(create_run(ended_at=now(), wait_ms=3.0, run_ms=4.0))))
    client = app.test_client()
    client.get("/healthz")
    run_checked([promtool, "check", "metrics"], client.get("/metrics").text)
