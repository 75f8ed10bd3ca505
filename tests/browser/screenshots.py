"""Make the README's pictures, `docs/overview.png` and `docs/overview-dark.png`, from a fresh sample library after a few
runs. Run it from the project's root: `python tests/browser/screenshots.py`.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from chromium import chromium, sign_in  # noqa: E402
from installation import Installation  # noqa: E402

EMAIL, PASSWORD = "vera@example.org", "correct horse battery"
SIZE = {"width": 1440, "height": 1040}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        installed = Installation(Path(folder))
        run_flask(installed, "migrate")
        run_flask(installed, "demo")
        run_flask(installed, "operator", "create", EMAIL, "--role", "operator", "--password-stdin", typed=PASSWORD)
        create_runs(installed)
        with installed.web(), installed.consumer("heavy"), installed.consumer("normal"), installed.consumer("light"):
            take_screenshots(installed)


def create_runs(installed: Installation) -> None:
    """Run cleanups that each close some sessions, by lowering the abandoned age, and one run that fails."""
    for hours in ("3.4", "3.1", "2.9", "2.6", "2.3"):
        installed.environment["ABANDONED_AFTER_HOURS"] = hours
        with installed.consumer("light") as consumer:
            run_flask(installed, "run-task", "close_abandoned_sessions", "--wait")
            if hours == "2.9":
                installed.flask("run-task", "get_cleanup_statistics", "hours=200", "--wait")
                run_flask(installed, "run-task", "get_cleanup_statistics", "hours=24", "--wait")
                run_flask(installed, "run-task", "cleanup_old_task_results", "--wait")
            consumer.stop()
    del installed.environment["ABANDONED_AFTER_HOURS"]


def run_flask(installed: Installation, *command: str, typed: str = "") -> None:
    ended = installed.flask(*command, typed=typed)
    if ended.returncode:
        sys.exit(f"flask {' '.join(command)}: {ended.stderr}")


def take_screenshots(installed: Installation) -> None:
    with chromium() as browser:
        for theme, file in (("light", "overview.png"), ("dark", "overview-dark.png")):
            page = browser.new_page(viewport=SIZE, color_scheme=theme)
            sign_in(page, f"http://127.0.0.1:{installed.port}", EMAIL, PASSWORD)
            page.get_by_text("live", exact=True).first.wait_for()
            page.screenshot(path=ROOT / "docs" / file)


if __name__ == "__main__":
    main()
