"""Charts of ended sessions: by run, by hour and device, by duration and progress."""

import re
from datetime import timedelta

from browsers import Browser
from budget import measure_cost
from factories import cleanup_result, create_closed_session, create_run

from engine.models import now


def chart_table(html: str, name: str) -> dict[str, list[str]]:
    """Return the rows of the table beneath a chart."""
    body = html.split(f'id="{name}-table"')[1].split("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', body, re.DOTALL)
    return {re.sub("<[^>]+>", "", head): re.findall("<td>([^<]*)</td>", cells) for head, cells in rows}


def test_closed_sessions_per_run_link_to_the_run(any_db_operator: Browser) -> None:
    at = now().replace(second=0, microsecond=0)
    runs = [
        create_run(result=cleanup_result(count), instant_at=at - timedelta(minutes=ago))
        for count, ago in ((14, 60), (0, 30))
    ]
    create_run("get_cleanup_statistics", instant_at=at)
    html = any_db_operator.get("/sessions/charts").text
    assert chart_table(html, "per-run") == {
        f"{at - timedelta(minutes=60):%H:%M}": ["14"],
        f"{at - timedelta(minutes=30):%H:%M}": ["0"],
    }
    assert all(f'href="/runs/{run.id}"' in html for run in runs)


def test_sessions_closed_by_runs_are_counted_by_start_hour_and_device(any_db_operator: Browser) -> None:
    at = now() - timedelta(hours=1)
    create_run(result=cleanup_result(4), instant_at=at)
    began = at.replace(minute=5) - timedelta(hours=5)
    for device in ("phone", "phone", "tablet", None):
        create_closed_session(started_at=began, ended_at=at, device_type=device)
    create_closed_session(started_at=began, ended_at=at + timedelta(seconds=1), device_type="phone")
    html = any_db_operator.get("/sessions/charts").text
    rows = chart_table(html, "abandoned")
    assert sorted(rows[f"{began:%H:00}"]) == ["1", "1", "2"]
    assert sum(int(cell) for cells in rows.values() for cell in cells) == 4
    assert len(rows) == 24
    for device in ("phone", "tablet", "unknown"):
        assert f"</i>{device}</li>" in html


def test_rare_devices_share_a_column(any_db_operator: Browser) -> None:
    at = now()
    create_run(instant_at=at)
    for device, count in (("a", 5), ("b", 4), ("c", 3), ("d", 2), ("e", 1)):
        for _ in range(count):
            create_closed_session(started_at=at.replace(minute=0), ended_at=at, device_type=device)
    rows = chart_table(any_db_operator.get("/sessions/charts").text, "abandoned")
    assert rows[f"{at:%H:00}"] == ["5", "4", "3", "3"]


def test_length_and_progress_are_shown_per_hour(any_db_operator: Browser) -> None:
    at = now()
    for minutes, reached in ((10, 9), (31, 0), (4, 0)):
        create_closed_session(ended_at=at, duration_minutes=minutes, end_position=reached)
    create_closed_session(ended_at=at - timedelta(hours=25))
    html = any_db_operator.get("/sessions/charts").text
    assert chart_table(html, "length")[f"{at:%H:00}"] == ["15", "3"]
    assert chart_table(html, "progress")[f"{at:%H:00}"] == ["67", "2", "3"]
    assert len(chart_table(html, "length")) == 24


def test_empty_page_says_so_and_cost_does_not_grow_with_sessions(operator: Browser) -> None:
    html = operator.get("/sessions/charts").text
    assert html.count('class="empty"') == 4
    before = measure_cost(operator, "/sessions/charts")
    for number in range(40):
        create_run(result=cleanup_result(number), instant_at=now() - timedelta(minutes=30 * number))
        create_closed_session(device_type=f"device {number}")
    assert measure_cost(operator, "/sessions/charts") <= before + 1
    assert 'href="/sessions/charts"' in operator.get("/sessions").text
