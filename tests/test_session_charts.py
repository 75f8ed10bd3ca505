"""How sessions end, in charts: by run, by hour and device, how long, how far."""

import re
from datetime import timedelta

from browsers import Browser
from budget import cost_of
from library import cleanup_result, closed, run

from engine.models import now


def table_of(html: str, name: str) -> dict[str, list[str]]:
    """The table beneath a chart, row by row."""
    body = html.split(f'id="{name}-table"')[1].split("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', body, re.DOTALL)
    return {re.sub("<[^>]+>", "", head): re.findall("<td>([^<]*)</td>", cells) for head, cells in rows}


def test_what_each_run_closed_leads_to_the_run(either: Browser) -> None:
    at = now().replace(second=0, microsecond=0)
    runs = [
        run(result=cleanup_result(count), instant_at=at - timedelta(minutes=ago)) for count, ago in ((14, 60), (0, 30))
    ]
    run("get_cleanup_statistics", instant_at=at)
    html = either.get("/sessions/charts").text
    assert table_of(html, "per-run") == {
        f"{at - timedelta(minutes=60):%H:%M}": ["14"],
        f"{at - timedelta(minutes=30):%H:%M}": ["0"],
    }
    assert all(f'href="/runs/{one.id}"' in html for one in runs)


def test_what_runs_closed_is_counted_by_the_hour_of_its_start_and_by_device(either: Browser) -> None:
    at = now() - timedelta(hours=1)
    run(result=cleanup_result(4), instant_at=at)
    began = at.replace(minute=5) - timedelta(hours=5)
    for device in ("phone", "phone", "tablet", None):
        closed(started_at=began, ended_at=at, device_type=device)
    closed(started_at=began, ended_at=at + timedelta(seconds=1), device_type="phone")
    html = either.get("/sessions/charts").text
    rows = table_of(html, "abandoned")
    assert sorted(rows[f"{began:%H:00}"]) == ["1", "1", "2"]
    assert sum(int(cell) for cells in rows.values() for cell in cells) == 4
    assert len(rows) == 24
    for device in ("phone", "tablet", "unknown"):
        assert f"</i>{device}</li>" in html


def test_rare_devices_share_a_column(either: Browser) -> None:
    at = now()
    run(instant_at=at)
    for device, count in (("a", 5), ("b", 4), ("c", 3), ("d", 2), ("e", 1)):
        for _ in range(count):
            closed(started_at=at.replace(minute=0), ended_at=at, device_type=device)
    rows = table_of(either.get("/sessions/charts").text, "abandoned")
    assert rows[f"{at:%H:00}"] == ["5", "4", "3", "3"]


def test_length_and_progress_stand_hour_by_hour(either: Browser) -> None:
    at = now()
    for minutes, reached in ((10, 9), (31, 0), (4, 0)):
        closed(ended_at=at, duration_minutes=minutes, end_position=reached)
    closed(ended_at=at - timedelta(hours=25))
    html = either.get("/sessions/charts").text
    assert table_of(html, "length")[f"{at:%H:00}"] == ["15", "3"]
    assert table_of(html, "progress")[f"{at:%H:00}"] == ["67", "2", "3"]
    assert len(table_of(html, "length")) == 24


def test_without_sessions_the_page_says_so_and_it_costs_little_with_many(operator: Browser) -> None:
    html = operator.get("/sessions/charts").text
    assert html.count('class="empty"') == 4
    before = cost_of(operator, "/sessions/charts")
    for number in range(40):
        run(result=cleanup_result(number), instant_at=now() - timedelta(minutes=30 * number))
        closed(device_type=f"device {number}")
    assert cost_of(operator, "/sessions/charts") <= before + 1
    assert 'href="/sessions/charts"' in operator.get("/sessions").text
